package exchange

import (
	"flag"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

var epochs = flag.Int("epochs", 1<<8+3, "operations of each kind that TestEpochs makes")

// TestEpochs: many operations of each kind, half of them before the epoch wraps
// and half after, with counts and data that change now and then, leave the right
// sums. The long form is
//
//	go test ./tests/exchange -run TestEpochs -epochs 65539 -timeout 0 -v
func TestEpochs(t *testing.T) {
	const (
		layers  = 8
		between = 16 // replays between two looks
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
			if way.protocol == gen.LL {
				p.Plan[0].Blocks, p.Plan[0].Threads = 1, 64
			}
			first := -uint32(*epochs / 2)
			r := newRig(t, machine(t, emu.Config{Devices: 2}), p, moert.WithTransport(way.transport), moert.WithFirstEpoch(first))
			outs, graphs := make([]moert.Tensor, 2), make([]driver.GraphExec, 2)
			for rank := range r.d {
				_, graphs[rank], outs[rank] = captureStep(t, r, rank, layers, false)
				defer graphs[rank].Close()
			}
			counts := [][2]int{{5, 16}, {0, 3}, {1, 1}, {16, 0}, {2, 15}}
			for i := 0; i*between*layers < *epochs; i++ {
				n := counts[i%len(counts)]
				doubled(t, r, graphs, outs, layers, between, i, n[0], n[1])
			}
		})
	}
}
