package judge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// most is the tokens that a rank may bring to these steps. One more fails the
// step, and only the GPUs know.
const most = 5

// steps is what a layer's run cannot show: steps that fail because a rank brings
// too many tokens, hidden states of any bits, and steps without a layer.
type steps struct {
	protocol gen.Protocol
	config   emu.Config
	tokens   [][]int
	noLayer  bool // counts only
	allOnes  bool // every bit of the hidden states is set: what ll takes for absent
	damage   [2]string
	prog     *moert.Program
	d        []*moert.Dispatcher
	streams  []driver.Stream
	counts   []moert.Tensor
	rows     []moert.Rows
}

// run verifies each step and returns what was found wrong first, and the
// judge's reports.
func (x *steps) run(t *testing.T) ([]emu.Report, error) {
	t.Helper()
	s, err := spec.Parse("moe.yaml", []byte(shape(2, most, 2, "timeout: 1s\n")))
	if err != nil {
		t.Fatal(err)
	}
	if x.prog, err = layer.Program(s); err != nil {
		t.Fatal(err)
	}
	layer.SetProtocol(x.prog, s, x.protocol)
	if from, to := x.damage[0], x.damage[1]; from != "" {
		if !strings.Contains(string(x.prog.Source), from) {
			t.Fatalf("the source does not have %q", from)
		}
		x.prog.Source = []byte(strings.ReplaceAll(string(x.prog.Source), from, to))
	}
	x.config.Devices = 2
	drv, err := emu.New(x.config)
	if err != nil {
		t.Fatal(err)
	}
	x.open(t, drv)
	for i := range x.tokens {
		if err = x.step(i); err != nil {
			err = fmt.Errorf("step %d: %w", i, err)
			break
		}
	}
	for _, d := range x.d {
		err = errors.Join(err, d.Close())
	}
	for _, s := range x.streams {
		err = errors.Join(err, s.Close())
	}
	err = errors.Join(err, drv.Close())
	return drv.Reports(), err
}

func (x *steps) open(t *testing.T, drv driver.Driver) {
	group, err := moert.NewLocalGroup(drv.Devices()...)
	if err != nil {
		t.Fatal(err)
	}
	x.d, x.streams = make([]*moert.Dispatcher, 2), make([]driver.Stream, 2)
	x.counts, x.rows = make([]moert.Tensor, 2), make([]moert.Rows, 2)
	err = group.Each(context.Background(), func(ctx context.Context, rank int) (err error) {
		d, err := moert.NewDispatcher(ctx, group, rank, x.prog, moert.WithTransport(moert.P2P), moert.WithLogger(quiet))
		if err != nil {
			return err
		}
		x.d[rank] = d
		if x.streams[rank], err = d.NewStream(); err != nil {
			return err
		}
		for to, rowBytes := range map[*moert.Tensor]int{&x.counts[rank]: 4, &x.rows[rank].Routing: x.prog.RoutingRowBytes(),
			&x.rows[rank].Probs: x.prog.ProbsRowBytes(), &x.rows[rank].Hidden: x.prog.HiddenRowBytes()} {
			if *to, err = d.NewTensor(most, rowBytes); err != nil {
				return err
			}
		}
		return d.Device().Write(d.PartialBuffer().Ptr, make([]byte, 2*most*x.prog.WireRowBytes())) // there are no experts
	})
	if err != nil {
		t.Fatal(err)
	}
}

// words is n rows of a rank in a step, in every word of which it says whose they
// are.
func (x *steps) words(step, rank, n, rowBytes int) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint32(nil, uint32(step+1)<<8|uint32(rank)), n*rowBytes/4)
}

// hidden is what travels of a rank's hidden states, if came, or what it brings.
func (x *steps) hidden(step, rank, n int, came bool) []byte {
	switch {
	case !x.allOnes:
		return x.words(step, rank, n, x.prog.HiddenRowBytes())
	case came && x.protocol == gen.LL:
		return bytes.Repeat([]byte{0xff, 0xff, 0xff, 0x7f}, n*x.prog.HiddenRowBytes()/4)
	}
	return bytes.Repeat([]byte{0xff}, n*x.prog.HiddenRowBytes())
}

// step runs the i-th step. Gathered tensors get the good rows, or stay as they
// are where the step has to fail.
func (x *steps) step(i int) error {
	p, tokens, l := x.prog, x.tokens[i], x.prog.Layout
	bad := slices.Max(tokens) > most
	before := bytes.Repeat([]byte{0xa5}, int(l.Partial-l.Routing))
	for rank, d := range x.d {
		dev, in := d.Device(), x.rows[rank]
		if err := errors.Join(dev.Write(d.Gathered().Routing.Ptr, before),
			dev.Write(x.counts[rank].Ptr, binary.LittleEndian.AppendUint32(nil, uint32(tokens[rank]))),
			dev.Write(in.Routing.Ptr, x.words(i, rank, most, p.RoutingRowBytes())),
			dev.Write(in.Probs.Ptr, x.words(i, rank, most, p.ProbsRowBytes())),
			dev.Write(in.Hidden.Ptr, x.hidden(i, rank, most, false))); err != nil {
			return err
		}
	}
	for rank := range x.d {
		if err := x.enqueue(rank); err != nil {
			return err
		}
	}
	for rank, d := range x.d {
		err := d.Synchronize(x.streams[rank])
		if bad && !errors.Is(err, moert.ErrTokens) {
			return fmt.Errorf("rank %d: %w, not a failed step", rank, err)
		} else if !bad && err != nil {
			return fmt.Errorf("rank %d: %w", rank, err)
		}
	}
	if x.noLayer {
		return nil
	}
	for rank, d := range x.d {
		want := slices.Clone(before)
		var routing, probs, hidden []byte
		for from, n := range tokens {
			routing = append(routing, x.words(i, from, n, p.RoutingRowBytes())...)
			probs = append(probs, x.words(i, from, n, p.ProbsRowBytes())...)
			hidden = append(hidden, x.hidden(i, from, n, true)...)
		}
		if !bad {
			copy(want, routing)
			copy(want[l.Probs-l.Routing:], probs)
			copy(want[l.Hidden-l.Routing:], hidden)
		}
		got := make([]byte, len(want))
		if err := d.Device().Read(got, d.Gathered().Routing.Ptr); err != nil {
			return err
		}
		for at := range got {
			if got[at] != want[at] {
				return fmt.Errorf("rank %d: byte %d of what is gathered is %#x, not %#x", rank, at, got[at], want[at])
			}
		}
	}
	return nil
}

func (x *steps) enqueue(rank int) error {
	d, s, tokens := x.d[rank], x.streams[rank], moert.DeviceTokens(x.counts[rank].Ptr)
	if x.noLayer {
		// A rank may be a step ahead of the other one.
		return errors.Join(d.BeginStep(s, tokens), d.BeginStep(s, tokens), d.BeginStep(s, tokens))
	}
	if err := d.NextStep(tokens); err != nil {
		return err
	}
	if _, err := d.Dispatch(s, x.rows[rank]); err != nil {
		return err
	}
	_, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()})
	return err
}

// A good step of each parity follows the one that fails.
var failing = [][]int{{3, 2}, {4, most + 1}, {2, 3}, {5, 5}, {most + 1, 5}, {0, 3}, {3, 3}}

// TestFailedSteps: steps with too many tokens on a rank leave nothing behind,
// whatever the bits; and counts alone may follow each other.
func TestFailedSteps(t *testing.T) {
	for _, protocol := range []gen.Protocol{gen.LL, gen.Bulk} {
		for name, x := range map[string]steps{"failing": {tokens: failing}, "all ones": {tokens: failing, allOnes: true}, "no layer": {tokens: failing[:1], noLayer: true}} {
			for seed := range uint64(4) {
				x.protocol, x.config = protocol, emu.Config{Mode: emu.Check + emu.Mode(seed%2), Seed: seed}
				if reports, err := x.run(t); err != nil || len(reports) > 0 {
					t.Errorf("%s, %s, seed %d: %v\n%v", name, protocol, seed, err, reports)
				}
			}
		}
	}
}

// TestFailedStepDamage: what these steps are there to show is found, in one of a
// few schedules.
func TestFailedStepDamage(t *testing.T) {
	const seeds = 8
	for _, d := range []struct {
		name, from, to, says string
		steps
	}{
		{"packs of a failed step are not drained", "return i < Index(counts[r]) * kHiddenPacks;", "return i < Index(step.count[r]) * kHiddenPacks;",
			"of what is gathered", steps{tokens: failing}},
		{"packs of a failed step are gathered", "if (step.count[r] == 0) return nullptr;", "", "of what is gathered", steps{tokens: failing}},
		{"words of a failed step are gathered", "if (row >= Index(step.count[r])) return -1;", "if (row >= Index(counts[r])) return -1;", "of what is gathered", steps{tokens: failing}},
		{"no stand-in", "return w == kAbsent ? kStandIn : w;", "return w == kStandIn ? kAbsent : w;", "stall", steps{tokens: failing, allOnes: true}},
		{"one slot for all counts", "size_t(epoch & 1) * kMaxBlocks", "size_t(0) * kMaxBlocks", "stall", steps{tokens: failing[:1], noLayer: true}},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			d.protocol, d.damage = gen.LL, [2]string{d.from, d.to}
			var said []string
			for seed := range uint64(seeds) {
				// That a rank gets a step ahead takes a schedule that holds the other one back.
				d.config = emu.Config{Mode: emu.Check + emu.Mode(seed%2), Seed: seed, Judge: emu.Judge{Schedule: emu.Schedule(seed / 2 % 2)}}
				reports, err := d.run(t)
				text := fmt.Sprint(err, reports)
				if (err != nil || len(reports) > 0) && strings.Contains(text, d.says) {
					return
				}
				said = append(said, text)
			}
			t.Fatalf("in %d schedules nothing says %q:\n%s", seeds, d.says, strings.Join(said, "\n"))
		})
	}
}
