package probe

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

// ones are results that no form has.
func ones(forms []Form) [][]uint64 {
	results := make([][]uint64, len(forms))
	for i := range results {
		results[i] = make([]uint64, Count)
		for j := range results[i] {
			results[i][j] = 0x3f800000
		}
	}
	return results
}

func TestForms(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range Forms() {
		if seen[f.Text] {
			t.Errorf("%s: twice", f.Text)
		}
		seen[f.Text] = true
		f.destination() // panics if there is none
	}
	if first, second := Inputs(), Inputs(); first != second {
		t.Error("inputs differ from call to call")
	}
}

// TestRecord: a record that was written and read finds one wrong bit.
func TestRecord(t *testing.T) {
	forms := Forms()
	text, err := NewRecord("a device", "a driver", forms, ones(forms)).Encode()
	if err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	results := ones(forms)
	if d, err := r.Compare(forms, results); err != nil || len(d) > 0 {
		t.Fatalf("differs from itself: %v %v", d, err)
	}
	exact, approx := -1, -1
	for i, f := range forms {
		if f.Approx == nil {
			exact = i
		} else if strings.HasPrefix(f.Text, "rcp.approx.f32") {
			approx = i
		}
	}
	results[exact][Count-1]++
	results[approx][stride]++      // one unit: allowed
	results[approx][2*stride] -= 9 // not allowed
	d, err := r.Compare(forms, results)
	if err != nil || len(d) != 2 || !strings.Contains(strings.Join(d, "\n"), forms[exact].Text) || !strings.Contains(strings.Join(d, "\n"), "further apart") {
		t.Errorf("got %q, %v", d, err)
	}
	list, count := Differences(forms, ones(forms), results, 1)
	if len(list) != 2 || count[forms[exact].Text] != 1 || count[forms[approx].Text] != 1 {
		t.Errorf("got %v, %v", list, count)
	}
	r.Inputs = ""
	if _, err := r.Compare(forms, results); err == nil {
		t.Error("a record of other operands was taken")
	}
}

func TestClose(t *testing.T) {
	f32 := func(x float32) uint64 { return uint64(math.Float32bits(x)) }
	one := [3]uint64{f32(1), f32(1)}
	for _, c := range []struct {
		t    Tolerance
		in   [3]uint64
		a, b uint64
		want bool
	}{
		{Tolerance{Type: "f32", ULP: 2}, one, f32(1), f32(1) + 2, true},
		{Tolerance{Type: "f32", ULP: 2}, one, f32(1), f32(1) + 3, false},
		{Tolerance{Type: "f32", ULP: 2}, one, 0x7fc00000, 0x7fffffff, true}, // NaNs
		{Tolerance{Type: "f32", ULP: 2}, one, 0x7f800000, 0x7f7fffff, false},
		{Tolerance{Type: "f32", ULP: 2}, one, 0, 1 << 31, true},
		{Tolerance{Type: "f32", ULP: 2}, one, 1, 3, true}, // subnormals
		{Tolerance{Type: "f32", Abs: 1e-3, High: 3}, [3]uint64{f32(4), f32(1)}, f32(0), f32(1), true},
		{Tolerance{Type: "f32", Abs: 1e-3, High: 3}, one, f32(0), f32(1), false},
		{Tolerance{Type: "f16x2", ULP: 1}, one, 0x3c003c00, 0x3c013bff, true},
		{Tolerance{Type: "f16x2", ULP: 1}, one, 0x3c003c00, 0x3c033c00, false},
		{Tolerance{Type: "bf16", Rel: 0x1p-6}, one, 0x3f80, 0x3f81, true},
		{Tolerance{Type: "f64", Rel: 0x1p-18}, one, math.Float64bits(3), math.Float64bits(3.1), false},
	} {
		if got := c.t.Close(c.in, c.a, c.b); got != c.want {
			t.Errorf("%+v: %#x and %#x: %v", c.t, c.a, c.b, got)
		}
	}
}
