package join

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// injected fails the k-th call of one name once it is armed, or counts calls.
type injected struct {
	mu    sync.Mutex
	armed bool
	op    string
	left  int
	seen  map[string]int
}

func (i *injected) arm(on bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.armed = on
}

func (i *injected) inject(op string, _ int) driver.Code {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.armed {
		return 0
	}
	i.seen[op]++
	if op == i.op {
		if i.left--; i.left == -1 {
			return driver.CodeOutOfMemory
		}
	}
	return 0
}

// TestEverySetupFailure fails each driver call of building dispatchers in turn,
// on one rank: all ranks end up with the same transport, or all with an error;
// no memory and no descriptor is lost, and the group stays usable.
func TestEverySetupFailure(t *testing.T) {
	p := program(t, 2)
	privateDir(t)
	try := func(t *testing.T, hosts int, i *injected) {
		drv := machine(t, emu.Config{Devices: 2, Inject: i.inject})
		address := freeAddress(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		groups, ds := make([]*moert.ProcessGroup, 2), make([]*moert.Dispatcher, 2)
		good(t, "join", all(2, func(r int) (err error) {
			o := options(address, r, 2)
			if hosts > 1 {
				o.Host = fmt.Sprint("host", r)
			}
			groups[r], err = moert.Join(ctx, drv, o)
			return err
		}))
		before := free(t, drv)
		build := func() []error {
			return all(2, func(r int) (err error) {
				ds[r], err = moert.NewDispatcher(ctx, groups[r], r, p, moert.WithLogger(quiet))
				return err
			})
		}
		i.arm(true)
		errs := build()
		i.arm(false)
		if (errs[0] == nil) != (errs[1] == nil) {
			t.Fatalf("one rank has a dispatcher: %v", errs)
		}
		if errs[0] != nil {
			if i.op == "" {
				t.Fatal(errs)
			}
			good(t, "again", build())
		}
		if ds[0].Transport() != ds[1].Transport() {
			t.Errorf("ranks differ: %s and %s", ds[0].Transport(), ds[1].Transport())
		}
		good(t, "close", all(2, func(r int) error { return errors.Join(ds[r].Close(), groups[r].Close()) }))
		if after := free(t, drv); !slices.Equal(before, after) {
			t.Errorf("%v bytes are free, before %v", after, before)
		}
	}
	for hosts, handles := range map[int]string{1: "file descriptors", 2: "fabric handles"} {
		count := &injected{seen: map[string]int{}}
		try(t, hosts, count)
		for op, n := range count.seen {
			for k := range n {
				t.Run(fmt.Sprintf("%s %s %d", handles, op, k), func(t *testing.T) {
					try(t, hosts, &injected{op: op, left: k, seen: map[string]int{}})
				})
			}
		}
	}
}
