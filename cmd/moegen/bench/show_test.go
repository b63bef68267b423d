package bench

import (
	"bytes"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	moert "github.com/moegen/moegen/runtime"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-update writes it): %s", name, d)
	}
}

// example is a result with round numbers; scale makes all of moegen's times
// longer.
func example(scale float64) *Result {
	at := func(us float64) *Time { return &Time{Median: us, P99: 2 * us} }
	x := &Result{
		Model: "m", Shape: "hidden 1024 bf16", Ranks: 2, Machine: "2 x GPU, driver", Transport: moert.P2P, Kernels: "nvcc",
		NCCL: "NCCL 2.28.9", Layers: 61, Floor: Floor{EmptyNode: 0.8, Flag: 0.7, OrderedFlag: 2.4, PeerCopyGBs: 400,
			BothCopyGBs: 380, StoreGBs: 390, BothStoreGBs: 360},
		Skew: []Skew{{Late: 1, Others: 1.2}, {Late: 20.1, Others: 20.4}},
	}
	for _, n := range []int{1, 32, 1024} {
		us := scale * (2 + float64(n)/200)
		x.Rows = append(x.Rows, &Row{
			Tokens: n, Protocol: "ll", Blocks: n, Threads: 512, DispatchBytes: 2100 * n, CombineBytes: 2048 * n,
			Stores: at(us - 1), Counts: at(1.5), Dispatch: at(us), Combine: at(us + 0.5), Pair: *at(2 * us), Eager: *at(20), Step: *at(61 * 3 * us), Experts: *at(61),
			NCCL: &NCCLRow{ThreeAllGathers: at(4 * us), Grouped: at(3 * us), ReduceBF16: at(2 * us), ReduceFP32: at(4 * us)},
		})
	}
	x.Rows[2].Fewer = []Fewer{{Tokens: 1, Pair: *at(6)}, {Tokens: 7, Pair: *at(7)}}
	x.finish()
	return x
}

func TestPrint(t *testing.T) {
	var b bytes.Buffer
	example(1).Print(&b)
	if err := example(1).PrintChanges(&b, example(2)); err != nil {
		t.Error(err)
	}
	golden(t, "print.txt", b.Bytes())
}

func TestPrintChanges(t *testing.T) {
	other, few := example(1), example(1)
	other.Ranks, few.Rows = 8, few.Rows[:0]
	for want, before := range map[string]*Result{"8 ranks, and this is m": other, "none of these token counts": few} {
		if err := example(1).PrintChanges(io.Discard, before); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestSVG: a picture that is well formed, also where little was measured.
func TestSVG(t *testing.T) {
	full, alone, none := example(1), example(1), example(1)
	alone.Rows = alone.Rows[:1]
	alone.Rows[0].NCCL = nil
	none.Rows = nil
	for _, x := range []*Result{full, alone, none} {
		text := x.SVG()
		for d := xml.NewDecoder(bytes.NewReader(text)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, text)
			}
		}
		if bytes.Contains(text, []byte("NaN")) || bytes.Contains(text, []byte("Inf")) {
			t.Errorf("%s", text)
		}
	}
	golden(t, "plots.svg", full.SVG())
}
