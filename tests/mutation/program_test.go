package mutation

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"

	"testing"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/nvcc"
	"github.com/moegen/moegen/spec"
)

var update = flag.Bool("update", false, "write testdata anew with nvcc")

// shape is a program whose kernels are mutated.
type shape struct {
	name string
	text string
	// Steps of one protocol, steps of both by turns, and, where not only the
	// protocol is mutated, steps of protocol ll with many rounds.
	bulk, low, both, many []step
}

// step is the ranks' counts, and the capacity, which says how the step is
// launched.
type step struct {
	capacity int
	counts   []int
}

// Capacities, by what the program plans for them: protocol and blocks.
const (
	lowOne  = 34
	bulkOne = 35
	lowTwo  = 40
	lowMany = 66  // one block
	bulkTwo = 132 // max_tokens
)

// isLow says whether a step of that capacity is launched with protocol ll.
func (st *step) isLow() bool {
	return st.capacity == lowOne || st.capacity == lowTwo || st.capacity == lowMany
}

// The shapes are as small as can be with every line of the kernels executed:
// with threads (below) threads and two blocks, the fourth of a thread's four
// packs in flight is there from 385 packs on, which is 129 tokens of routing;
// with protocol ll a thread has a second pack from 33 tokens on, and a third in a
// launch of one block. Of a combine with many rounds, which has 16 tokens in a
// round, each place that pushes has one with rows of its own: a rank of 2 tokens
// goes on, when it has summed up, and then again and again; one of 20 tokens has
// too few in the second round. The ranks take turns. A launch may have more blocks
// than a block has threads. Some ranks have no rows in some steps; grids change
// between steps. Counts travel early in steps with even numbers, and in band in the
// others; where protocols change, they do so both ways with either.
var shapes = []*shape{
	{
		name: "ep2",
		text: "model: mutation\nhidden_dim: 32\ntopk: 6\nnum_experts: 12\ndtype: bf16\nep_size: 2\nmax_tokens: 132\nsm_limit: 70\ntransports: [nvls, p2p]\n",
		bulk: []step{{bulkTwo, []int{131, 3}}, {bulkTwo, []int{0, 130}}, {bulkOne, []int{1, 0}}, {bulkTwo, []int{34, 70}}},
		low: []step{{lowTwo, []int{35, 3}}, {lowTwo, []int{0, 40}}, {lowOne, []int{1, 0}}, {lowTwo, []int{17, 34}}, {lowTwo, []int{0, 0}},
			{lowOne, []int{0, 1}}, {lowOne, []int{34, 1}}, {lowOne, []int{1, 34}}},
		both: []step{{lowTwo, []int{3, 1}}, {bulkTwo, []int{2, 5}}, {bulkOne, []int{1, 2}}, {lowTwo, []int{4, 0}}, {bulkTwo, []int{0, 3}},
			{bulkTwo, []int{1, 1}}, {lowOne, []int{1, 1}}},
	},
	{
		name: "ep3",
		text: "model: mutation\nhidden_dim: 32\ntopk: 6\nnum_experts: 13\ndtype: bf16\nep_size: 3\nmax_tokens: 132\nsm_limit: 2\ntransports: [nvls, p2p]\n",
		bulk: []step{{bulkTwo, []int{3, 0, 19}}, {bulkTwo, []int{0, 131, 2}}, {bulkOne, []int{1, 1, 0}}, {bulkTwo, []int{130, 33, 4}}},
		low: []step{{lowTwo, []int{3, 0, 34}}, {lowTwo, []int{0, 39, 0}}, {lowOne, []int{1, 1, 0}}, {lowTwo, []int{38, 33, 4}}, {lowTwo, []int{0, 0, 0}},
			{lowOne, []int{1, 0, 1}}, {lowOne, []int{34, 1, 0}}, {lowOne, []int{2, 0, 34}}, {lowOne, []int{0, 33, 1}}},
		both: []step{{lowTwo, []int{3, 0, 1}}, {bulkTwo, []int{2, 5, 0}}, {bulkOne, []int{1, 2, 0}}, {lowTwo, []int{0, 4, 2}}, {bulkTwo, []int{0, 0, 3}},
			{bulkTwo, []int{1, 1, 1}}, {lowOne, []int{1, 0, 1}}},
		many: []step{{lowMany, []int{20, 66, 2}}, {lowMany, []int{2, 20, 66}}, {lowMany, []int{66, 2, 20}}},
	},
}

// threads is the block size of the mutated programs: two warps, where the
// generator's 16 would leave 14 of them idle in an exchange of this size.
const threads = 64

var blockSize = regexp.MustCompile(`(?m)^constexpr int kThreads = \d+;`)

// program is the shape's program: generated anew but for the PTX, which is
// testdata, so that the mutants do not depend on the compiler at hand.
func (s *shape) program(t testing.TB) *moert.Program {
	t.Helper()
	p, err := layer.Program(s.spec(t))
	if err != nil {
		t.Fatal(err)
	}
	if !blockSize.Match(p.Source) {
		t.Fatal("the source has no kThreads")
	}
	p.Source = blockSize.ReplaceAll(p.Source, []byte("constexpr int kThreads = 64;"))
	p.Threads = threads
	p.Plan = []moert.PlanRow{
		{Tokens: lowOne, Low: true, Blocks: 1, Threads: threads}, {Tokens: bulkOne, Blocks: 1, Threads: threads},
		{Tokens: lowTwo, Low: true, Blocks: 2, Threads: threads}, {Tokens: lowMany, Low: true, Blocks: 1, Threads: threads},
		{Tokens: bulkTwo, Blocks: 2, Threads: threads},
	}
	if p.PTX, err = os.ReadFile(s.file()); err != nil && !*update {
		t.Fatal(err)
	}
	p.PTXArch = "sm_90a"
	return p
}

func (s *shape) spec(t testing.TB) *spec.Spec {
	t.Helper()
	m, err := spec.Parse(s.name+".yaml", []byte(s.text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (s *shape) file() string { return filepath.Join("testdata", s.name+".ptx") }

// TestTestdata: the checked-in PTX is that of today's templates. With -update
// it writes it. Lines of the source do not count, instructions do.
func TestTestdata(t *testing.T) {
	c, err := nvcc.Find(t.Context())
	if errors.Is(err, nvcc.ErrNotFound) || errors.Is(err, nvcc.ErrTooOld) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	for _, s := range shapes {
		if err := s.compile(t, c); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *shape) compile(t *testing.T, c *nvcc.Compiler) error {
	p := s.program(t)
	im, err := c.Compile(context.Background(), nvcc.Source{Name: "moe.cu", Text: p.Source},
		nvcc.Target{Arch: p.PTXArch, PTX: true, LineInfo: true})
	if err != nil {
		return err
	}
	now := nvcc.NormalizePTX(im.Data)
	if *update {
		return os.WriteFile(s.file(), now, 0o644)
	}
	if bytes.Equal(instructions(now), instructions(p.PTX)) {
		return nil
	}
	if version := ptxVersion(now); version != ptxVersion(p.PTX) {
		t.Logf("%s was made by another compiler (PTX %s), which may emit other instructions", s.file(), version)
		return nil
	}
	t.Errorf("%s is not what nvcc makes of the templates now: go test ./tests/mutation -run TestTestdata -update", s.file())
	return nil
}

var (
	positions = regexp.MustCompile(`(?m)^\s*\.(loc|file)\b.*\n`)
	versions  = regexp.MustCompile(`(?m)^\.version (.*)$`)
	debug     = regexp.MustCompile(`(?s)\n\s*\.section.*`)
)

// instructions is PTX without what only says where in the source it is from.
func instructions(text []byte) []byte {
	text = debug.ReplaceAll(text, nil)
	text = regexp.MustCompile(`(?m)^\$L__(tmp|func|info).*:\n`).ReplaceAll(text, nil)
	return positions.ReplaceAll(text, nil)
}

func ptxVersion(text []byte) string {
	m := versions.FindSubmatch(text)
	if m == nil {
		return "?"
	}
	return string(m[1])
}
