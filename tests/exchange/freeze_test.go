package exchange

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
)

var every = flag.Int64("every", 47, "stop a rank at one in so many of its operations")

// TestFrozenRank stops one rank at every visible operation of a small step, once
// it has run one before. The others never hang: they end with the right bytes, or
// with an error that names the rank. When it goes on it does not take wrong bytes for
// right ones either. The whole is
//
//	go test ./tests/exchange -run TestFrozenRank -every 1 -timeout 0 -v
func TestFrozenRank(t *testing.T) {
	for _, c := range []struct {
		name      string
		ranks     int
		more      string // of the spec
		transport moert.Transport
		protocol  gen.Protocol
		inBand    bool // the counts travel with the dispatch
	}{
		{"bulk", 2, "", moert.NVLS, gen.Bulk, false},
		{"bulk", 2, "", moert.NVLS, gen.Bulk, true},
		{"bulk", 2, "", moert.P2P, gen.Bulk, false},
		{"bulk", 3, "", moert.P2P, gen.Bulk, true},
		{"ll", 2, "", moert.P2P, gen.LL, false},
		{"ll", 2, "", moert.P2P, gen.LL, true},
		{"ll", 3, "", moert.P2P, gen.LL, true},
		{"ll", 6, "", moert.P2P, gen.LL, false}, // more than are polled at once
		{"fused", 2, fused, moert.P2P, gen.LL, true},
		{"fused", 2, fused, moert.NVLS, gen.Bulk, true},
		{"fp8", 2, "dispatch: {quantize: fp8_e4m3_block128}\n", moert.P2P, gen.LL, true},
		{"fp8 of whole warps", 2, "hidden_dim: 512\ndispatch: {quantize: fp8_e4m3_block128}\n", moert.P2P, gen.LL, false},
		{"fp8", 2, "dispatch: {quantize: fp8_e4m3_block128}\n", moert.NVLS, gen.Bulk, true},
	} {
		name := fmt.Sprintf("%s-%s-%d", c.name, c.transport, c.ranks)
		if c.inBand {
			name += "-in band"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := fmt.Sprintf("topk: 2\ndtype: bf16\nep_size: %d\nmax_tokens: 4\nnum_experts: 6\nsm_limit: 2\n%s", c.ranks, c.more)
			if !strings.Contains(text, "hidden_dim:") {
				text += "hidden_dim: 128\n"
			}
			p := protocolled(t, text, c.protocol)
			x := &freezing{p: p, transport: c.transport, inBand: c.inBand}
			const never = 1 << 40
			all := x.run(t, never, nil) // what a step yields that nobody disturbs
			told := map[string]int{}
			n := int64(0)
			x.told = told
			// Among many ranks some go on to the next operation and wait there for those
			// that wait for the victim: moments in which they do are few.
			step := *every
			if c.ranks > 3 {
				step = (step + 11) / 12
			}
			for at := int64(0); at < x.turns; at += step {
				// In a test of its own, after which nothing is kept of its machine.
				t.Run(fmt.Sprint(at), func(t *testing.T) { x.run(t, at, all) })
				n++
			}
			t.Logf("stopped at %d of %d operations; others were told: %v", n, x.turns, told)
		})
	}
}

// freezing is a step of which one rank is stopped.
type freezing struct {
	p         *moert.Program
	transport moert.Transport
	inBand    bool
	turns     int64          // of the victim in an undisturbed step
	told      map[string]int // what the others were told, how often
}

const victim = 1

// run stops the victim after so many turns of its second step. It returns what
// every rank has at the end, and compares it with want, if that is known.
func (x *freezing) run(t *testing.T, after int64, want [][]byte) (all [][]byte) {
	t.Helper()
	drv, err := emu.New(emu.Config{Devices: x.p.Ranks, Mode: emu.Check, Workers: 1, Judge: emu.Judge{AllowStalls: true}})
	check(t, err)
	r := newRig(t, drv, x.p, moert.WithTransport(x.transport), moert.WithTimeout(20*time.Millisecond))
	defer func() {
		r.close(t)
		check(t, drv.Close())
	}()
	rng := rand.New(rand.NewPCG(1, 2))
	counts := []int{3, 2, 4, 1, 0, 3}[:x.p.Ranks]
	combined := make([]moert.Combined, x.p.Ranks)
	step := func() { // with data of its own
		args := make([]moert.CombineArgs, x.p.Ranks)
		for rank, d := range r.d {
			in := r.in[rank]
			write(t, d, in.routing, bf16s(rng, x.p.MaxTokens*x.p.RoutingRowBytes()/2))
			write(t, d, in.probs, bf16s(rng, x.p.MaxTokens*x.p.ProbsRowBytes()/2))
			write(t, d, in.hidden, bf16s(rng, x.p.MaxTokens*x.p.HiddenDim))
			args[rank] = argsOf(t, d, x.p, rng)
		}
		for rank, d := range r.d {
			s := r.streams[rank]
			if x.inBand {
				check(t, d.NextStep(moert.HostTokens(counts[rank])))
			} else {
				check(t, d.BeginStep(s, moert.HostTokens(counts[rank])))
			}
			_, err := d.Dispatch(s, r.in[rank].rows())
			check(t, err)
			combined[rank], err = d.Combine(s, args[rank])
			check(t, err)
		}
	}
	step()
	for rank, d := range r.d {
		check(t, d.Synchronize(r.streams[rank]))
	}
	before := drv.Turns(victim)
	drv.Freeze(victim, after)
	step()
	at := fmt.Sprintf("rank %d stopped after %d operations", victim, after)
	all = make([][]byte, x.p.Ranks)
	ends := func(rank int) {
		d := r.d[rank]
		err := d.Synchronize(r.streams[rank])
		var failed *moert.FailedError
		switch {
		case err == nil:
			all[rank] = x.state(t, d, combined[rank], counts, rank)
			if want != nil && !bytes.Equal(all[rank], want[rank]) {
				t.Errorf("%s: rank %d ends with wrong bytes, without an error", at, rank)
			}
			return
		case want == nil || !errors.As(err, &failed): // nobody was stopped, or it is no such error
			t.Errorf("%s: rank %d: %v", at, rank, err)
		case !failed.Timeout() || failed.Peer != victim || failed.Rank == victim:
			t.Errorf("%s: rank %d is told: %v", at, rank, err)
		case x.told != nil && rank != victim:
			x.told[strings.SplitN(err.Error(), ":", 2)[0]]++
		}
		// Later calls fail at once.
		if err := d.BeginStep(r.streams[rank], moert.HostTokens(1)); !errors.As(err, &failed) {
			t.Errorf("%s: rank %d goes on: %v", at, rank, err)
		}
	}
	for rank := range r.d {
		if rank != victim {
			ends(rank)
		}
	}
	drv.Thaw(victim)
	ends(victim)
	if x.turns == 0 {
		x.turns = drv.Turns(victim) - before
	}
	return all
}

// argsOf fills a rank's partial sums, and makes what else its combine reads.
func argsOf(t *testing.T, d *moert.Dispatcher, p *moert.Program, rng *rand.Rand) moert.CombineArgs {
	a := moert.CombineArgs{Partial: d.PartialBuffer()}
	write(t, d, a.Partial, bf16s(rng, p.Ranks*p.MaxTokens*p.HiddenDim))
	rows := func(n int) moert.Tensor { return tensor(t, d, n, p.HiddenRowBytes(), bf16s(rng, n*p.HiddenDim)) }
	if p.Epilogue.Shared {
		a.Shared = rows(p.MaxTokens)
	}
	if p.Epilogue.Residual {
		a.Residual = rows(p.MaxTokens)
	}
	if p.Epilogue.Norm != "" {
		a.Weight = rows(1)
	}
	return a
}

// state is what a rank has after a step: what was gathered, and its outputs.
func (x *freezing) state(t *testing.T, d *moert.Dispatcher, c moert.Combined, counts []int, rank int) []byte {
	t.Helper()
	var all []byte
	read := func(from moert.Tensor, rows, rowBytes int) {
		if rowBytes > 0 {
			b := make([]byte, rows*rowBytes)
			check(t, d.Device().Read(b, from.Ptr))
			all = append(all, b...)
		}
	}
	total := 0
	for _, n := range counts[:x.p.Ranks] {
		total += n
	}
	g := d.Gathered()
	read(g.Routing, total, x.p.RoutingRowBytes())
	read(g.Probs, total, x.p.ProbsRowBytes())
	read(g.Hidden, total, x.p.PayloadRowBytes())
	read(g.Scales, total, x.p.ScaleRowBytes())
	read(c.Out, counts[rank], x.p.OutputRowBytes())
	read(c.Scales, counts[rank], x.p.OutputScaleRowBytes())
	if x.p.Epilogue.Sum {
		read(c.Sum, counts[rank], x.p.HiddenRowBytes())
	}
	return all
}
