package bench

import (
	"strings"
	"testing"

	moert "github.com/moegen/moegen/runtime"
)

func TestAlternate(t *testing.T) {
	c := config(t)
	list, err := Alternate(t.Context(), []int{1, 8}, 3, Version{Name: "a", Config: c}, Version{Name: "b", Config: c})
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 4 {
		t.Fatalf("%+v", list)
	}
	for i, a := range list {
		if a.Version != []string{"a", "b"}[i%2] || a.Tokens != []int{1, 8}[i/2] || a.Protocol != "ll" ||
			len(a.Dispatch) != 3 || len(a.Combine) != 3 || Median(a.Dispatch) <= 0 || Median(a.Combine) <= 0 {
			t.Errorf("%+v", a)
		}
	}
	if m := Median([]float64{3, 1, 2}); m != 2 {
		t.Errorf("the median is 2, not %v", m)
	}

	over := c
	over.Transport = moert.NCCL
	if _, err := Alternate(t.Context(), []int{1}, 1, Version{Name: "c", Config: over}); err == nil || !strings.Contains(err.Error(), "c, 1 tokens, measuring: over nccl") {
		t.Error(err)
	}
}
