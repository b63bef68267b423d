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
	{[]string{"combine.order"}, func(s *Spec) bool { return s.Combine.Order == OrderRank }, "rank order", "any"},
	{[]string{"combine.epilogue"}, func(s *Spec) bool { return len(s.Combine.Epilogue) > 0 }, "a fused epilogue", "[]"},
	{[]string{"combine.output", "dtype"}, func(s *Spec) bool { return s.Combine.Output != s.DType }, "another output type", "dtype"},
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
