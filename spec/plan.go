package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Plan says how to launch a spec's kernels by token count, as measured on a
// machine. It is read from the file beside the spec that [PlanFile] names, and
// is no part of the spec's canonical form or hash.
type Plan struct {
	// Shape is what it was measured for, see [Spec.Shape].
	Shape string
	// Measured says when and on what, for people.
	Measured string
	// Rows ascend in Tokens.
	Rows []PlanRow

	file  string
	where map[string]pos
}

// PlanRow is how to launch where no rank brings more than Tokens tokens, and
// more than the row before.
type PlanRow struct {
	Tokens   int
	Protocol string // "ll", "bulk" or "mixed"
	Blocks   int
	Threads  int // of a block
	// Pair and BuiltIn are microseconds of a dispatch and a combine with Tokens
	// tokens a rank, so launched and by the built-in plan; 0 where not measured.
	Pair, BuiltIn float64
}

// PlanFile names the plan of a spec's file: moe_plan.yaml for moe.yaml.
func PlanFile(specFile string) string {
	return strings.TrimSuffix(specFile, filepath.Ext(specFile)) + "_plan.yaml"
}

// Shape says in one line everything that decides how long the kernels take:
// plans are for one shape. max_tokens is no part of it.
func (s *Spec) Shape() string {
	var b strings.Builder
	fmt.Fprintf(&b, "hidden %d %s, top %d %s %s, wire %s %s", s.HiddenDim, s.DType, s.TopK, s.RoutingDType, s.ProbsDType, s.Combine.Wire, s.Combine.Order)
	if t, block := s.GatheredScale(); block > 0 {
		fmt.Fprintf(&b, ", dispatch %s with %s per %d", s.PayloadDType(), t, block)
	}
	if len(s.Combine.Epilogue) > 0 {
		fmt.Fprintf(&b, ", epilogue %s", flow(s.Combine.Epilogue))
	}
	if s.Combine.Output != s.DType {
		fmt.Fprintf(&b, ", output %s", s.Combine.Output)
	}
	if s.Layout != Compact {
		fmt.Fprintf(&b, ", layout %s", s.Layout)
	}
	if s.RoutingFill != FillNone {
		fmt.Fprintf(&b, ", fill %s", s.RoutingFill)
	}
	fmt.Fprintf(&b, ", ep_size %d, sm_limit %d", s.EPSize, s.SMLimit)
	return b.String()
}

// YAML returns the plan's file.
func (p *Plan) YAML() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `# Written by moegen tune; moegen generate bakes it into the package. To go back to
# the built-in plan, remove this file.
#   tokens    a rank, at most; protocol, blocks and threads: how to launch for so many
#   pair      microseconds of a dispatch and a combine with so many tokens
#   built_in  the same with the built-in plan
version: 1
shape: %q
measured: %q
rows:
`, p.Shape, p.Measured)
	for _, r := range p.Rows {
		fmt.Fprintf(&b, "  - {tokens: %d, protocol: %s, blocks: %d, threads: %d, pair: %.2f, built_in: %.2f}\n",
			r.Tokens, r.Protocol, r.Blocks, r.Threads, r.Pair, r.BuiltIn)
	}
	return b.Bytes()
}

// ParsePlan checks a plan and that it is for the spec. The error is an
// [ErrorList]. What kernels can be launched with is not checked: package gen
// knows.
func ParsePlan(file string, data []byte, s *Spec) (*Plan, error) {
	c := &collector{file: file}
	data, ok := checkText(data, c)
	if !ok {
		return nil, c.err()
	}
	top := parseYAML(data, c)
	if top == nil {
		return nil, c.err()
	}
	r := newReport(c, top.pos)
	p := &Plan{file: file, where: r.where}
	version := 0
	setMap([]field{
		{name: "version", required: true, set: setBounded(&version, span{1, 1})},
		{name: "shape", required: true, set: setText(&p.Shape)},
		{name: "measured", required: true, set: setText(&p.Measured)},
		{name: "rows", required: true, set: p.setRows(s)},
	}, r, "", top)
	if r.sound("shape") && p.Shape != s.Shape() {
		r.fault("shape", Error{Msg: "the plan is for another shape than the spec: run moegen tune again, or remove the file",
			Value: fmt.Sprintf("%q", p.Shape), Allowed: fmt.Sprintf("%q", s.Shape())})
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Plan) setRows(s *Spec) func(*report, string, *node) {
	return func(r *report, path string, n *node) {
		if !wants(r, path, n, "a list of rows", "", kindList) {
			return
		}
		if len(n.items) == 0 {
			r.fault(path, Error{Msg: "a plan has one row at least"})
		}
		for i, item := range n.items {
			row, sub := PlanRow{}, fmt.Sprintf("%s[%d]", path, i)
			r.where[sub] = item.pos
			setMap([]field{
				{name: "tokens", required: true, set: setBounded(&row.Tokens, ranges["max_tokens"])},
				{name: "protocol", required: true, set: setText(&row.Protocol)},
				{name: "blocks", required: true, set: setBounded(&row.Blocks, span{1, s.SMLimit})},
				{name: "threads", required: true, set: setBounded(&row.Threads, span{32, 1024})},
				{name: "pair", set: setFloat(&row.Pair)},
				{name: "built_in", set: setFloat(&row.BuiltIn)},
			}, r, sub, item)
			checkEnum(r, sub+".protocol", row.Protocol, []string{"ll", "bulk", "mixed"})
			if threads := sub + ".threads"; r.sound(threads) && row.Threads%32 != 0 {
				r.fault(threads, Error{Msg: "must be a multiple of 32", Value: fmt.Sprint(row.Threads)})
			}
			if i > 0 && r.sound(sub+".tokens") && row.Tokens <= p.Rows[i-1].Tokens {
				r.fault(sub+".tokens", Error{Msg: fmt.Sprintf("rows ascend in tokens: must be more than the %d of the row before", p.Rows[i-1].Tokens), Value: fmt.Sprint(row.Tokens)})
			}
			p.Rows = append(p.Rows, row)
		}
	}
}

// setBounded is setInt with the range that is allowed.
func setBounded(dst *int, allowed span) func(*report, string, *node) {
	return func(r *report, path string, n *node) {
		if n.kind == kindInt && !plainInt.MatchString(n.text) {
			n = &node{kind: kindOther, pos: n.pos, text: n.text}
		}
		if !wants(r, path, n, "a whole number in plain decimal digits", allowed.String(), kindInt) {
			return
		}
		v := 0
		if _, err := fmt.Sscan(n.text, &v); err != nil || v < allowed.lo || v > allowed.hi {
			r.fault(path, Error{Msg: "out of range", Value: show(n.text), Allowed: allowed.String()})
			return
		}
		*dst = v
	}
}

// Fault is a mistake in a field of a row that another package has found.
func (p *Plan) Fault(row int, field, msg, value, allowed string) *Error {
	path := fmt.Sprintf("rows[%d].%s", row, field)
	e := &Error{File: p.file, Field: path, Msg: msg, Value: value, Allowed: allowed}
	if at, ok := p.where[path]; ok {
		e.Line, e.Col = at.line, at.col
	}
	return e
}

// loadPlan reads the plan beside a spec, if there is one.
func loadPlan(specFile string, s *Spec) error {
	file := PlanFile(specFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read plan: %w", err)
	}
	s.Plan, err = ParsePlan(file, data, s)
	return err
}
