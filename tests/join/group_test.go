package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// TestTransports: the dispatchers of a group of processes use what those of one
// process use, and give all memory back.
func TestTransports(t *testing.T) {
	for _, c := range []struct {
		name   string
		config emu.Config
		hosts  int
		want   moert.Transport
		reason string
	}{
		{name: "multicast", want: moert.NVLS},
		{name: "no multicast", config: emu.Config{NoMulticast: true}, want: moert.P2P, reason: "does not support multicast"},
		{name: "one device refused", config: emu.Config{Inject: failing("cuMulticastAddDevice", 1, 802)}, want: moert.P2P, reason: "802"},
		{name: "import refused", config: emu.Config{Inject: failing("cuMemImportFromShareableHandle", 2, 999)}, want: moert.NCCL, reason: "999"},
		{name: "one pair cannot", config: emu.Config{NoPeer: func(a, b int) bool { return a == 1 && b == 0 }}, want: moert.NCCL, reason: "cannot access"},
		{name: "fabric handles", hosts: 3, want: moert.NVLS},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.Devices = 3
			drv := machine(t, c.config)
			before := free(t, drv)
			ms := party(t, drv, program(t, 3), func(rank int, o *moert.JoinOptions) {
				if c.hosts > 0 {
					o.Host = fmt.Sprint("host", rank%c.hosts)
				}
			})
			for i := range 3 {
				good(t, "step", all(3, func(r int) error { return ms[r].run(i + r) }))
			}
			for r, m := range ms {
				if m.d.Transport() != c.want {
					t.Errorf("rank %d: %s, want %s (%v)", r, m.d.Transport(), c.want, m.d.Refusals())
				}
				if text := fmt.Sprint(m.d.Refusals()); !strings.Contains(text, c.reason) {
					t.Errorf("rank %d: refusals %s do not say %q", r, text, c.reason)
				}
				kind := driver.HandlePosixFD
				if c.hosts > 0 {
					kind = driver.HandleFabric
				}
				if m.group.HandleKind() != kind {
					t.Errorf("rank %d: handles of kind %d", r, m.group.HandleKind())
				}
			}
			good(t, "close", all(3, func(r int) error { return ms[r].close() }))
			if after := free(t, drv); !slices.Equal(before, after) {
				t.Errorf("%v bytes are free, before %v", after, before)
			}
		})
	}
}

func failing(op string, device int, code driver.Code) func(string, int) driver.Code {
	return func(o string, d int) driver.Code {
		if o == op && d == device {
			return code
		}
		return 0
	}
}

// TestSeveralDispatchers: they share a group, and are closed in any order.
func TestSeveralDispatchers(t *testing.T) {
	drv, p := machine(t, emu.Config{Devices: 2}), program(t, 2)
	before := free(t, drv)
	ms := party(t, drv, p, nil)
	second := make([]*moert.Dispatcher, 2)
	good(t, "second dispatcher", all(2, func(r int) (err error) {
		second[r], err = moert.NewDispatcher(t.Context(), ms[r].group, r, p, moert.WithLogger(quiet))
		return err
	}))
	good(t, "step", all(2, func(r int) error { return ms[r].run(3) }))
	good(t, "close", all(2, func(r int) error { return errors.Join(second[r].Close(), ms[r].close()) }))
	if after := free(t, drv); !slices.Equal(before, after) {
		t.Errorf("%v bytes are free, before %v", after, before)
	}
}

// TestTwoGroups: two groups at once on one host do not meet.
func TestTwoGroups(t *testing.T) {
	p := program(t, 2)
	privateDir(t)
	drvs := []driver.Driver{machine(t, emu.Config{Devices: 2}), machine(t, emu.Config{Devices: 2})}
	addresses := []string{freeAddress(t), freeAddress(t)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	good(t, "two groups", all(4, func(i int) error {
		g, r := i/2, i%2
		m, err := enlist(ctx, drvs[g], options(addresses[g], r, 2), p)
		if err != nil {
			return err
		}
		for range 5 {
			if err := m.run(4); err != nil {
				return err
			}
		}
		return m.close()
	}))
}

// TestMismatch: what differs is named on all ranks.
func TestMismatch(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(rank int, o *moert.JoinOptions, drv driver.Driver)
		want   string
	}{
		{"spec", func(r int, o *moert.JoinOptions, _ driver.Driver) {
			o.Same = map[string]string{"spec": fmt.Sprint("hash ", r/2)}
		}, `rank 2`},
		{"one GPU for two", func(r int, o *moert.JoinOptions, drv driver.Driver) { o.Device = drv.Devices()[r/2] }, "ranks 0 and 1 are both on GPU"},
	} {
		t.Run(c.name, func(t *testing.T) {
			privateDir(t)
			drv, address := machine(t, emu.Config{Devices: 3}), freeAddress(t)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for r, err := range all(3, func(r int) error {
				o := options(address, r, 3)
				c.change(r, &o, drv)
				g, err := moert.Join(ctx, drv, o)
				if err == nil {
					g.Close()
				}
				return err
			}) {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("rank %d: %v, want %q", r, err, c.want)
				}
			}
		})
	}
}

// TestForeignRank: a process speaks for its own rank.
func TestForeignRank(t *testing.T) {
	ms := party(t, machine(t, emu.Config{Devices: 2}), program(t, 2), nil)
	g := ms[0].group
	if _, err := g.AllGather(t.Context(), 1, nil); !errors.Is(err, moert.ErrGroup) {
		t.Errorf("AllGather: %v", err)
	}
	if _, err := g.Device(2); err == nil {
		t.Error("rank 2 of 2 has a device")
	}
	good(t, "close", all(2, func(r int) error { return ms[r].close() }))
}

// TestStatus: what a rank knows of the group.
func TestStatus(t *testing.T) {
	drv := machine(t, emu.Config{Devices: 2})
	ms := party(t, drv, program(t, 2), func(_ int, o *moert.JoinOptions) { o.Generation = 4 })
	time.Sleep(100 * time.Millisecond) // some heartbeats
	s := ms[1].group.Status()
	if s.Rank != 1 || s.Size != 2 || s.Generation != 4 || s.Hosts != 1 || s.Handles != "file descriptors" || s.Error != "" || len(s.Ranks) != 2 {
		t.Errorf("%+v", s)
	}
	for r, x := range s.Ranks {
		if x.Rank != r || x.PID != os.Getpid() || x.State != "here" || x.GPU != drv.Devices()[r].Info().UUID || x.Heard < 0 || x.Heard > 10*time.Second {
			t.Errorf("%+v", x)
		}
	}
	if s.Processes != 1 || len(s.Dispatchers) != 1 || s.LastFailure != "" {
		t.Errorf("%+v", s)
	}
	d := s.Dispatchers[0]
	if d.Rank != 1 || d.Model != "moe" || d.Transport != moert.NVLS || d.Why == "" || d.Memory != "vmm" || d.Error != "" {
		t.Errorf("%+v", d)
	}
	line := s.String()
	for _, part := range []string{"rank 1 of 2 ranks in 1 process on 1 host, generation 4", "memory by file descriptors (all ranks are on one host)", "; moe: nvls (the first of"} {
		if !strings.Contains(line, part) || strings.Contains(line, "\n") {
			t.Errorf("%q has not %q", line, part)
		}
	}
	c := s.Counters
	if c.Gathers == 0 || c.Heartbeats == 0 || c.Descriptors == 0 || c.BytesIn == 0 || c.BytesOut == 0 || c.Imported != 2 {
		t.Errorf("%+v", c) // one memory, one multicast object
	}
	if _, err := json.Marshal(s); err != nil {
		t.Error(err)
	}
	if err := ms[0].d.Close(); err != nil {
		t.Error(err)
	}
	if n := ms[0].group.Status().Counters.Leaving; n != 1 {
		t.Errorf("%d dispatchers wait", n)
	}
	good(t, "close", all(2, func(r int) error { return ms[r].close() }))
	if s := ms[0].group.Status(); s.Error == "" {
		t.Errorf("after Close: %+v", s)
	}
}

// TestDump: one rank's own memory tells which of the others is behind.
func TestDump(t *testing.T) {
	ms := party(t, machine(t, emu.Config{Devices: 3}), program(t, 3), nil, moert.WithTimeout(50*time.Millisecond))
	good(t, "step", all(3, func(r int) error { return ms[r].run(2) }))
	for r, err := range all(2, func(r int) error { return ms[r].run(2) }) {
		var f *moert.FailedError
		if !errors.As(err, &f) || !f.Timeout() || f.Dump == nil {
			t.Fatalf("rank %d: %v", r, err)
		}
		x := f.Dump.Ranks
		if want := (moert.Lag{Rank: 2, Epoch: 1, Want: 2, Blocks: 1}); len(x) != 1 || x[0].Rank != r || len(x[0].Phases[0].Behind) != 1 || x[0].Phases[0].Behind[0] != want {
			t.Errorf("rank %d:\n%s", r, f.Dump)
		}
		s := ms[r].group.Status()
		if s.Error != "" || !strings.Contains(s.LastFailure, "rank 2 did not come") || s.Dispatchers[0].Error == "" || !strings.Contains(s.String(), s.LastFailure) {
			t.Errorf("%s", s)
		}
	}
	good(t, "close", all(3, func(r int) error { return ms[r].close() }))
}
