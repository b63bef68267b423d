package bench

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
)

// TestChoose: the fastest launch, but the built-in one if that is as fast.
func TestChoose(t *testing.T) {
	tries := try{[]tried{{gen.LL, 64, 512, 5.0, false}, {gen.LL, 8, 512, 5.09, true}, {gen.Bulk, 16, 512, 5.05, false}}}
	if got := tries.choose(); got.blocks != 8 {
		t.Errorf("%+v", got)
	}
	tries.list[1].us = 5.2
	if got := tries.choose(); got.blocks != 64 {
		t.Errorf("%+v", got)
	}
}

func TestGrids(t *testing.T) {
	b := &bench{Config: Config{Program: &moert.Program{HiddenDim: 7168, Payload: moert.BF16, MaxBlocks: 132}}}
	for _, c := range []struct {
		tokens, threads int
		want            []int
	}{
		{1, 512, []int{1, 2, 3, 4, 6, 8}},
		{64, 512, []int{2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 132}},
		{4096, 512, []int{128, 132}},
		{65536, 512, []int{132}},
	} {
		if d := cmp.Diff(c.want, b.grids(c.tokens, c.threads)); d != "" {
			t.Errorf("%d tokens: %s", c.tokens, d)
		}
	}
}

func TestFull(t *testing.T) {
	b := &bench{Config: Config{Program: &moert.Program{HiddenDim: 7168, Payload: moert.BF16, MaxBlocks: 132}}}
	for tokens, want := range map[int]int{1: 32, 64: 448, 128: 896, 256: 896, 512: 896, 1024: 1024} {
		got := b.full(tokens, 1024)
		rounds := func(threads int) int { return (tokens*896 + 132*threads - 1) / (132 * threads) }
		if got != want || rounds(got) != rounds(1024) {
			t.Errorf("%d tokens: %d threads, want %d; %d rounds", tokens, got, want, rounds(got))
		}
	}
}

// TestTuneNCCL: there is nothing to choose.
func TestTuneNCCL(t *testing.T) {
	c := config(t)
	c.Transport = moert.NCCL
	if _, err := Tune(t.Context(), c); err == nil {
		t.Error("nccl was tuned")
	}
}
