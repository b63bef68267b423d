package layer

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

func TestInputs(t *testing.T) {
	s, err := spec.Parse("test.yaml", []byte("hidden_dim: 32\ntopk: 4\ndtype: bf16\nep_size: 2\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Program(s)
	if err != nil {
		t.Fatal(err)
	}
	in := newInputs(s, p, 3)
	if len(in.logits) != 16 {
		t.Errorf("%d experts are assumed", len(in.logits))
	}
	x := in.make(0, 0, 0, 500)
	used := map[int]int{}
	for tok := range 500 {
		experts := slices.Clone(x.experts[4*tok : 4*tok+4])
		slices.Sort(experts)
		if len(slices.Compact(experts)) != 4 {
			t.Fatalf("token %d goes to %v", tok, x.experts[4*tok:4*tok+4])
		}
		sum := 0.0
		for k := 4 * tok; k < 4*tok+4; k++ {
			used[x.experts[k]]++
			sum += x.weights[k]
		}
		if math.Abs(sum-1) > 1e-6 {
			t.Fatalf("token %d: probabilities add up to %v", tok, sum)
		}
	}
	most, least := 0, 500
	for _, n := range used {
		most, least = max(most, n), min(least, n)
	}
	if len(used) != 16 || most < 3*least {
		t.Errorf("experts are used from %d to %d times: not skewed", least, most)
	}
	if again := newInputs(s, p, 3).make(0, 0, 0, 500); !bytes.Equal(again.hidden, x.hidden) || !bytes.Equal(again.routing, x.routing) {
		t.Error("the same seed made other inputs")
	}
	for _, other := range []*input{in.make(1, 0, 0, 500), in.make(0, 1, 0, 500), in.make(0, 0, 1, 500), newInputs(s, p, 4).make(0, 0, 0, 500)} {
		if bytes.Equal(other.hidden, x.hidden) || bytes.Equal(other.routing, x.routing) {
			t.Error("another step, layer, rank or seed made the same input")
		}
	}
}

// TestUsePTX takes what was made of the program's source, and nothing else.
func TestUsePTX(t *testing.T) {
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source := []byte("kernels")
	good := fmt.Sprintf(`{"ptx": {"source": %q, "arch": "sm_90a"}, "outputs": {"moe_moegen.ptx": %q}}`, digest(source), digest([]byte("ptx")))
	for _, c := range []struct {
		name, manifest, ptx string
		want                bool
	}{
		{"fits", good, "ptx", true},
		{"other source", strings.Replace(good, digest(source), digest([]byte("other")), 1), "ptx", false},
		{"changed PTX", good, "ptz", false},
		{"no PTX", `{"outputs": {}}`, "", false},
		{"no manifest", "", "ptx", false},
		{"damaged manifest", "{", "ptx", false},
	} {
		dir := t.TempDir()
		if c.manifest != "" {
			write(filepath.Join(dir, "moe_moegen.json"), c.manifest)
		}
		if c.ptx != "" {
			write(filepath.Join(dir, "moe_moegen.ptx"), c.ptx)
		}
		p := &moert.Program{Source: source}
		if got := UsePTX(p, filepath.Join(dir, "moe.yaml")); got != c.want || (string(p.PTX) == "ptx") != c.want {
			t.Errorf("%s: %v, PTX %q", c.name, got, p.PTX)
		}
	}
}
