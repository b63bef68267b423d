package spec

import "fmt"

// gap is something that the language can say and the generator cannot do.
// Building it means deleting its line from the table below, nothing else.
type gap struct {
	fields []string // the one to blame, then those that it depends on
	uses   func(*Spec) bool
	what   string
	use    string // what to write instead
}

var notBuilt = []gap{
	{[]string{"max_prefill_tokens"}, func(s *Spec) bool { return s.MaxPrefillTokens > 0 }, "prefill", "0"},
	{[]string{"layout"}, func(s *Spec) bool { return s.Layout == Padded }, string(Padded), string(Compact)},
	{[]string{"routing_fill"}, func(s *Spec) bool { return s.RoutingFill == FillMinusOne }, string(FillMinusOne), string(FillNone)},
	{[]string{"dispatch.quantize"}, func(s *Spec) bool { return s.Dispatch.Quantize == QuantizeFP8 }, string(QuantizeFP8), "none"},
	{[]string{"dispatch.input"}, func(s *Spec) bool { return s.Dispatch.Input != "" }, "quantised input", "none"},
	{[]string{"routing_dtype", "topk"}, func(s *Spec) bool { return s.RoutingRowBytes()%4 != 0 }, "a routing row of an odd number of half words", "int32, or an even topk"},
	{[]string{"probs_dtype", "topk"}, func(s *Spec) bool { return s.ProbsRowBytes()%4 != 0 }, "a probs row of an odd number of half words", "fp32, or an even topk"},
}

// checkBuilt reports what s asks for that is not built. A field that is wrong
// anyway, or that depends on one, is left alone.
func checkBuilt(s *Spec, r *report) {
	for _, g := range notBuilt {
		if !r.sound(g.fields...) || !g.uses(s) {
			continue
		}
		r.fault(g.fields[0], Error{Msg: fmt.Sprintf("%s is %v; use %s", g.what, ErrNotBuilt, g.use), notBuilt: true})
	}
}
