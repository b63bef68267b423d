package exchange

import (
	"slices"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
)

// watched is a stream that keeps how its kernels were launched.
type watched struct {
	driver.Stream
	dependent *[]bool
}

func (s watched) Launch(f driver.Function, c driver.LaunchConfig, params []byte) error {
	*s.dependent = append(*s.dependent, c.Dependent)
	return s.Stream.Launch(f, c, params)
}

// TestLaunches: kernels are launched programmatically, unless serial launches are
// asked for.
func TestLaunches(t *testing.T) {
	for _, c := range []struct {
		name string
		opts []moert.Option
		want bool
	}{
		{"p2p", []moert.Option{moert.WithTransport(moert.P2P)}, true},
		{"nvls", []moert.Option{moert.WithTransport(moert.NVLS)}, true},
		{"p2p serial", []moert.Option{moert.WithTransport(moert.P2P), moert.WithSerialLaunch()}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, machine(t, emu.Config{Devices: 2}), program(t, small), c.opts...)
			kept := make([][]bool, 2)
			for rank, s := range r.streams {
				r.streams[rank] = watched{s, &kept[rank]}
			}
			r.good(t, 3)
			for rank, dependent := range kept {
				if len(dependent) < 3 || slices.Contains(dependent, !c.want) {
					t.Errorf("rank %d: launches are programmatic: %v, want all %t", rank, dependent, c.want)
				}
			}
		})
	}
}
