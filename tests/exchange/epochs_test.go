package exchange

import (
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// TestEpochs: 2^16 + 3 operations of each kind, half of them before the epoch
// wraps and half after, with counts and data that change now and then, leave
// the right sums.
func TestEpochs(t *testing.T) {
	const (
		layers     = 8
		operations = 1<<16 + 3
		between    = 64 // replays between two looks
	)
	for _, way := range []struct {
		transport moert.Transport
		protocol  gen.Protocol
	}{{moert.NVLS, gen.Bulk}, {moert.P2P, gen.Bulk}, {moert.P2P, gen.LL}} {
		t.Run(string(way.transport)+"/"+string(way.protocol), func(t *testing.T) {
			s, err := spec.Parse("moe.yaml", []byte(small))
			if err != nil {
				t.Fatal(err)
			}
			p := program(t, small)
			layer.SetProtocol(p, s, way.protocol)
			first := ^uint32(operations / 2)
			r := newRig(t, machine(t, emu.Config{Devices: 2}), p, moert.WithTransport(way.transport), moert.WithFirstEpoch(first))
			outs, graphs := make([]moert.Tensor, 2), make([]driver.GraphExec, 2)
			for rank := range r.d {
				_, graphs[rank], outs[rank] = captureStep(t, r, rank, layers, false)
				defer graphs[rank].Close()
			}
			counts := [][2]int{{5, 16}, {0, 3}, {1, 1}, {16, 0}, {2, 15}}
			for i := 0; i*between*layers < operations; i++ {
				n := counts[i%len(counts)]
				doubled(t, r, graphs, outs, layers, between, i, n[0], n[1])
			}
		})
	}
}
