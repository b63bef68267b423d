package spec

import "fmt"

// gap is something that the language can say and the generator cannot do.
// Building it means deleting its line from the table below, nothing else.
type gap struct {
	fields []string // the one to blame, then those that it depends on
	uses   func(*Spec) bool
	what   func(*Spec) string
	use    string // what to write instead
}

var notBuilt = []gap{
	{[]string{"dispatch.quantize"}, func(s *Spec) bool { return s.Dispatch.Quantize == QuantizeFP8 }, words(string(QuantizeFP8)), "none"},
	{[]string{"combine.order"}, func(s *Spec) bool { return s.Combine.Order == OrderRank }, words("rank order"), "any"},
	{[]string{"combine.epilogue"}, func(s *Spec) bool { return len(s.Combine.Epilogue) > 0 }, words("a fused epilogue"), "[]"},
	// Routing and probs rows move in 4-byte words: half a word at the end of a
	// row would share its word with the next token's.
	{[]string{"routing_dtype", "topk"}, func(s *Spec) bool { return s.RoutingRowBytes()%4 != 0 }, oddRow("routing", (*Spec).RoutingRowBytes), "int32, or an even topk"},
	{[]string{"probs_dtype", "topk"}, func(s *Spec) bool { return s.ProbsRowBytes()%4 != 0 }, oddRow("probs", (*Spec).ProbsRowBytes), "fp32, or an even topk"},
}

func words(s string) func(*Spec) string { return func(*Spec) string { return s } }

func oddRow(name string, bytes func(*Spec) int) func(*Spec) string {
	return func(s *Spec) string {
		return fmt.Sprintf("a %s row of %d bytes (topk %d), not a multiple of 4,", name, bytes(s), s.TopK)
	}
}

// checkBuilt reports what s asks for that is not built. A field that is wrong
// anyway, or that depends on one, is left alone.
func checkBuilt(s *Spec, r *report) {
	for _, g := range notBuilt {
		if !r.sound(g.fields...) || !g.uses(s) {
			continue
		}
		r.fault(g.fields[0], Error{Msg: fmt.Sprintf("%s is %v; use %s", g.what(s), ErrNotBuilt, g.use), notBuilt: true})
	}
}
