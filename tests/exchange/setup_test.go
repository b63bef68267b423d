package exchange

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// TestTransportVote: the whole group moves on when one rank cannot.
func TestTransportVote(t *testing.T) {
	none := func(a, b int) bool { return true }
	for _, c := range []struct {
		name   string
		config emu.Config
		opts   []moert.Option
		env    string
		want   moert.Transport
		reason string // in the first refusal
		err    string
	}{
		{name: "all can", want: moert.NVLS},
		{name: "no multicast", config: emu.Config{NoMulticast: true}, want: moert.P2P, reason: "does not support multicast"},
		{name: "one pair cannot", config: emu.Config{NoPeer: func(a, b int) bool { return a == 1 && b == 0 }}, want: moert.NCCL, reason: "cannot access"},
		{name: "asked for", opts: []moert.Option{moert.WithTransport(moert.P2P)}, want: moert.P2P},
		{name: "asked for by the environment", env: "nccl", want: moert.NCCL},
		{name: "asked for what cannot be had", config: emu.Config{NoPeer: none}, opts: []moert.Option{moert.WithTransport(moert.P2P)}, err: "cannot access"},
		{name: "unknown", env: "rdma", err: `transport "rdma"`},
		{name: "object refused", config: emu.Config{Inject: failing("cuMulticastCreate", -2, 401)}, want: moert.P2P, reason: "401"},
		{name: "one device refused", config: emu.Config{Inject: failing("cuMulticastAddDevice", 1, 802)}, want: moert.P2P, reason: "802"},
		{name: "no slots", config: emu.Config{Inject: failing("cuMulticastBindMem", 1, 2)}, want: moert.P2P, reason: "(2)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv(moert.TransportEnv, c.env)
			}
			c.config.Devices = 2
			drv := machine(t, c.config)
			before := free(t, drv)
			group, ds, err := dispatchers(drv, program(t, small), c.opts...)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				same(t, "after a refusal", before, free(t, drv))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for rank, d := range ds {
				if d.Transport() != c.want {
					t.Errorf("rank %d: %s, want %s", rank, d.Transport(), c.want)
				}
				if c.reason != "" && (len(d.Refusals()) == 0 || !strings.Contains(fmt.Sprint(d.Refusals()), c.reason)) {
					t.Errorf("rank %d: refusals %v do not say %q", rank, d.Refusals(), c.reason)
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			}
			if err := group.Close(); err != nil {
				t.Error(err)
			}
			same(t, "after Close", before, free(t, drv))
		})
	}
}

// failing makes every call of one name fail, on one device (-2: on any).
func failing(op string, device int, code driver.Code) func(string, int) driver.Code {
	return func(o string, d int) driver.Code {
		if o == op && (device == -2 || d == device) {
			return code
		}
		return 0
	}
}

func free(t testing.TB, drv driver.Driver) []uint64 {
	t.Helper()
	var out []uint64
	for _, d := range drv.Devices() {
		f, _, err := d.MemInfo()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func same(t testing.TB, when string, before, after []uint64) {
	t.Helper()
	for i := range before {
		if before[i] != after[i] {
			t.Errorf("%s GPU %d has %d bytes free, before %d", when, i, after[i], before[i])
		}
	}
}

// TestEverySetupFailure fails each driver call of the set-up in turn, on one
// rank: all ranks end up with the same transport, or all with an error, and
// no memory is lost.
func TestEverySetupFailure(t *testing.T) {
	p := program(t, small)
	var mu sync.Mutex
	seen := map[string]int{} // calls by name and device
	count := 0
	record := func(op string, device int) driver.Code {
		mu.Lock()
		defer mu.Unlock()
		seen[op]++
		count++
		return 0
	}
	drv := machine(t, emu.Config{Devices: 2, Inject: record})
	group, ds, err := dispatchers(drv, p)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	calls := make(map[string]int, len(seen))
	for op, n := range seen {
		calls[op] = n
	}
	mu.Unlock()
	for _, d := range ds {
		d.Close()
	}
	group.Close()

	for op, n := range calls {
		for k := range n {
			t.Run(fmt.Sprintf("%s %d", op, k), func(t *testing.T) {
				left := k
				armed := false
				drv := machine(t, emu.Config{Devices: 2, Inject: func(o string, _ int) driver.Code {
					mu.Lock()
					defer mu.Unlock()
					if !armed || o != op {
						return 0
					}
					left--
					if left == -1 {
						return driver.CodeOutOfMemory
					}
					return 0
				}})
				before := free(t, drv)
				mu.Lock()
				armed = true
				mu.Unlock()
				group, ds, err := dispatchers(drv, p)
				mu.Lock()
				armed = false
				mu.Unlock()
				if err == nil {
					for _, d := range ds {
						if d.Transport() != ds[0].Transport() {
							t.Errorf("ranks differ: %s and %s", ds[0].Transport(), d.Transport())
						}
						if err := d.Close(); err != nil {
							t.Error(err)
						}
					}
					group.Close()
				} else {
					for rank, d := range ds {
						if d != nil {
							t.Errorf("rank %d has a dispatcher although another failed: %v", rank, err)
						}
					}
				}
				same(t, "after "+op, before, free(t, drv))
			})
		}
	}
}

// TestCreateClose: no growth over many dispatchers.
func TestCreateClose(t *testing.T) {
	p := program(t, small)
	drv := machine(t, emu.Config{Devices: 2})
	before := free(t, drv)
	for i := range 1000 {
		group, ds, err := dispatchers(drv, p)
		if err != nil {
			t.Fatalf("cycle %d: %v", i, err)
		}
		for _, d := range ds {
			if err := d.Close(); err != nil {
				t.Fatalf("cycle %d: %v", i, err)
			}
			if err := d.Close(); err != nil {
				t.Fatalf("cycle %d: second Close: %v", i, err)
			}
		}
		if err := group.Close(); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "after 1000 cycles", before, free(t, drv))
}

// TestNoHostWork: between BeginStep and the end of Combine the runtime does
// nothing but enqueue.
func TestNoHostWork(t *testing.T) {
	for transport, want := range map[moert.Transport]int{moert.NVLS: 3, moert.P2P: 3} {
		var mu sync.Mutex
		var calls []string
		recording := false
		drv := machine(t, emu.Config{Devices: 2, Inject: func(op string, _ int) driver.Code {
			mu.Lock()
			defer mu.Unlock()
			if recording {
				calls = append(calls, op)
			}
			return 0
		}})
		r := newRig(t, drv, program(t, small), moert.WithTransport(transport))
		r.good(t, 2)
		mu.Lock()
		recording = true
		mu.Unlock()
		for rank := range r.d {
			if err := r.step(rank, moert.HostTokens(2)); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		recording = false
		got := calls
		mu.Unlock()
		if len(got) != 2*want {
			t.Errorf("%s: %d driver calls for 2 ranks, want %d: %v", transport, len(got), 2*want, got)
		}
		for _, op := range got {
			if op != "cuLaunchKernel" && op != "cuLaunchKernelEx" {
				t.Errorf("%s: a step calls %s", transport, op)
			}
		}
	}
}
