package judge

import (
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

var (
	schedules = flag.Int("schedules", 1, "schedules to explore for each generated model, transport and number of ranks")
	firstSeed = flag.Uint64("first-seed", 0, "the first of their seeds")
)

// TestGenerated: the kernels of every model in generated/, shrunk, have nothing
// to report at 2, 3, 4 and 8 ranks, with protocol bulk over nvls and p2p, and ll,
// whose kernels are the same for both, over p2p. The long form is
//
//	go test ./tests/judge -run TestGenerated -schedules 1000 -timeout 0 -v
func TestGenerated(t *testing.T) {
	var paths []string
	for _, root := range []string{"../../generated", "generated"} { // a checkout, a bundle
		found, err := filepath.Glob(filepath.Join(root, "*", "moe.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	if len(paths) == 0 {
		t.Fatal("no generated models")
	}
	seen := map[string]bool{}
	for _, path := range paths {
		for _, ranks := range []int{2, 3, 4, 8} {
			s, p := shrunk(t, path, ranks)
			if seen[string(p.Source)] {
				continue // models that differ in what was shrunk
			}
			seen[string(p.Source)] = true
			for _, way := range []struct {
				transport moert.Transport
				protocol  gen.Protocol
			}{{moert.NVLS, gen.Bulk}, {moert.P2P, gen.Bulk}, {moert.P2P, gen.LL}} {
				p := planned(*p, s, way.protocol)
				name := fmt.Sprintf("%s/%d/%s-%s", filepath.Base(filepath.Dir(path)), ranks, way.transport, way.protocol)
				// In parts, so that many cores share a cell.
				for first := 0; first < *schedules; first += part {
					t.Run(fmt.Sprintf("%s/%d", name, first), func(t *testing.T) {
						t.Parallel()
						explore(t, job{spec: s, prog: &p, transport: way.transport}, *firstSeed+uint64(first), min(part, *schedules-first))
					})
				}
			}
		}
	}
}

// part is how many schedules one test explores.
const part = 20

// explore judges a program in Check once and in n schedules, half of them random
// walks and half PCT, with the experts' sums in the dispatcher's buffer and in
// their own.
func explore(t *testing.T, j job, first uint64, n int) {
	j.tokens, j.layers, j.eager = counts(j.spec.EPSize, j.spec.MaxTokens, 3), 1, true
	start := time.Now()
	j.config, j.partials = emu.Config{Mode: emu.Check, Seed: first}, layer.PartialsOwn
	clean(t, j)
	for i := range uint64(n) {
		seed := first + i
		j.config = emu.Config{Mode: emu.Explore, Seed: seed, Judge: emu.Judge{Schedule: emu.Schedule(seed % 2), PCTDepth: 2 + int(seed/2%3)}}
		j.partials = layer.PartialsBuffer + layer.Partials(seed/4%2)
		clean(t, j)
	}
	t.Logf("%d schedules from seed %d: %v", n, first, time.Since(start).Round(time.Millisecond))
}

// A shrunk block has an eighth of the threads that the generator gives it, and
// a shrunk row an eighth of the packs: every thread makes as many turns of the
// same loops, with the same remainders, as in the real program.
const (
	shrinkBy = 8
	tokens   = 4 // a rank, at most
)

var blockSize = regexp.MustCompile(`(?m)^(constexpr int k(?:Low)?Threads) = (\d+);`)

// shrunk is a model's program with its own topk, types and pack widths, but
// small, and for another number of ranks.
func shrunk(t *testing.T, path string, ranks int) (*spec.Spec, *moert.Program) {
	t.Helper()
	s, err := spec.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if s.HiddenRowBytes()%(16*shrinkBy) != 0 {
		t.Fatalf("%s: a row of %d bytes cannot be shrunk by %d", path, s.HiddenRowBytes(), shrinkBy)
	}
	s.Model = "shrunk"
	s.HiddenDim /= shrinkBy
	s.EPSize, s.MaxTokens, s.SMLimit = ranks, tokens, 3
	s.Transports = []spec.Transport{spec.NVLS, spec.P2P}
	s.NumExperts = max(s.TopK, 3*ranks)
	if err := s.Validate(); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return s, shrunkProgram(t, s)
}

// shrunkProgram makes a spec's program with shrunk blocks.
func shrunkProgram(t *testing.T, s *spec.Spec) *moert.Program {
	t.Helper()
	p, err := layer.Program(s)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(blockSize.FindAll(p.Source, -1)); n != 2 {
		t.Fatalf("the source has %d sizes of blocks, not kThreads and kLowThreads", n)
	}
	p.Threads /= shrinkBy
	p.Source = blockSize.ReplaceAllFunc(p.Source, func(line []byte) []byte {
		m := blockSize.FindSubmatch(line)
		threads, err := strconv.Atoi(string(m[2]))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Appendf(nil, "%s = %d;", m[1], threads/shrinkBy)
	})
	return p
}

// planned is the shrunk program with a protocol's plan, on all SMs.
func planned(p moert.Program, s *spec.Spec, protocol gen.Protocol) moert.Program {
	p.Plan = nil
	for _, row := range gen.Plan(s, protocol) {
		row.Threads /= shrinkBy
		row.Blocks = s.SMLimit
		p.Plan = append(p.Plan, moert.PlanRow(row))
	}
	return p
}
