package spec

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is what decoding and checking share: the errors, where each field was
// written, and which fields already had an error, so that none is blamed twice.
type report struct {
	*collector
	where map[string]pos    // field path -> its value; "" -> the top
	files map[string]string // field path -> the file it is in, if not the spec's own
	bad   map[string]bool
}

func newReport(c *collector, top pos) *report {
	return &report{collector: c, where: map[string]pos{"": top}, files: map[string]string{}, bad: map[string]bool{}}
}

// at returns where a field is, or else the mapping that it would be in.
func (r *report) at(path string) pos {
	for {
		if p, ok := r.where[path]; ok || path == "" {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
}

// fault reports a mistake in a field and marks the field.
func (r *report) fault(path string, e Error) {
	e.Field, e.File = path, r.files[path]
	r.add(r.at(path), e)
	r.bad[path] = true
}

// field is one key of a mapping and what to do with its value: it is set, or is
// itself a mapping of fields.
type field struct {
	name     string
	required bool
	set      func(r *report, path string, n *node)
	fields   []field
}

// fields is the language: its keys, and where each value goes.
func fields(s *Spec) []field {
	return []field{
		{name: "version", set: setInt(&s.Version)},
		{name: "model", set: setText(&s.Model)},
		{name: "from", set: setText(&s.From)},
		{name: "hidden_dim", required: true, set: setInt(&s.HiddenDim)},
		{name: "topk", required: true, set: setInt(&s.TopK)},
		{name: "num_experts", set: setInt(&s.NumExperts)},
		{name: "ep_size", required: true, set: setInt(&s.EPSize)},
		{name: "dtype", required: true, set: setText(&s.DType)},
		{name: "max_tokens", set: setInt(&s.MaxTokens)},
		{name: "max_prefill_tokens", set: setInt(&s.MaxPrefillTokens)},
		{name: "routing_dtype", set: setText(&s.RoutingDType)},
		{name: "probs_dtype", set: setText(&s.ProbsDType)},
		{name: "layout", set: setText(&s.Layout)},
		{name: "routing_fill", set: setWord(&s.RoutingFill)},
		{name: "dispatch", fields: []field{
			{name: "quantize", set: setText(&s.Dispatch.Quantize)},
			{name: "input", set: setText(&s.Dispatch.Input)},
			{name: "scale_dtype", set: setText(&s.Dispatch.ScaleDType)},
			{name: "scale_block", set: setInt(&s.Dispatch.ScaleBlock)},
		}},
		{name: "combine", fields: []field{
			{name: "wire", set: setText(&s.Combine.Wire)},
			{name: "order", set: setText(&s.Combine.Order)},
			{name: "epilogue", set: setList(&s.Combine.Epilogue)},
			{name: "scale", set: setFloat(&s.Combine.Scale)},
			{name: "rmsnorm", fields: []field{
				{name: "weight", set: setText(&s.Combine.RMSNorm.Weight)},
				{name: "eps", set: setFloat(&s.Combine.RMSNorm.Eps)},
			}},
			{name: "output", set: setText(&s.Combine.Output)},
		}},
		{name: "arch", set: setList(&s.Arch)},
		{name: "transports", set: setList(&s.Transports)},
		{name: "sm_limit", set: setInt(&s.SMLimit)},
		{name: "timeout", set: setDuration(&s.Timeout)},
	}
}

// decode fills s from the top node. It returns whether s is worth checking.
func decode(top *node, s *Spec, r *report) bool {
	switch top.kind {
	case kindMap:
	case kindBad:
		return false
	case kindNull:
		r.add(top.pos, Error{Msg: "the document is empty; a spec needs at least hidden_dim, topk, dtype and ep_size"})
		return false
	default:
		r.add(top.pos, Error{Msg: "a spec must be a mapping of keys to values, such as topk: 8", Value: top.kind.String()})
		return false
	}
	// The version comes first: another one's keys would all be "unknown".
	for _, k := range top.keys {
		if k.name == "version" && k.value.kind == kindInt && plainInt.MatchString(k.value.text) && k.value.text != strconv.Itoa(Version) {
			r.where[k.name] = k.value.pos
			r.fault(k.name, Error{Msg: "not a version of the spec that this moegen reads", Value: show(k.value.text), Allowed: strconv.Itoa(Version)})
			return false
		}
	}
	setMap(fields(s), r, "", top)
	return true
}

func setMap(fields []field, r *report, path string, n *node) {
	byName, names := make(map[string]*field), make([]string, len(fields))
	for i := range fields {
		byName[fields[i].name], names[i] = &fields[i], fields[i].name
	}
	if !wants(r, path, n, "a mapping", "the keys "+strings.Join(names, ", "), kindMap) {
		return
	}
	given, meant := make(map[string]bool), make(map[string]bool)
	for _, k := range n.keys {
		f := byName[k.name]
		if f == nil {
			e := Error{Field: join(path, show(k.name)), Msg: "unknown key", Allowed: strings.Join(names, ", ")}
			if s := suggest(k.name, names); s != "" {
				e.Msg, e.Allowed = "unknown key; did you mean "+s+"?", ""
				meant[s] = true
			}
			r.add(k.pos, e)
			continue
		}
		given[k.name] = true
		sub := join(path, k.name)
		r.where[sub] = k.value.pos
		if k.value.kind == kindNull {
			r.where[sub] = k.pos // an absent value has no place of its own
		}
		if f.fields != nil {
			setMap(f.fields, r, sub, k.value)
		} else {
			f.set(r, sub, k.value)
		}
	}
	for _, f := range fields {
		// A misspelt key is one mistake, not two.
		if f.required && !given[f.name] {
			sub := join(path, f.name)
			r.bad[sub] = true
			if !meant[f.name] {
				r.fault(sub, missing(sub))
			}
		}
	}
}

// missing is the mistake of a required field that is not given.
func missing(path string) Error {
	e := Error{Msg: "required, but not given", Allowed: allowedText[path]}
	if span, ok := ranges[path]; ok {
		e.Allowed = span.String()
	}
	if slices.Contains(taken, path) {
		e.Msg += "; write it, or from with the model's config.json"
	}
	return e
}

// wants reports a value of the wrong kind; it returns whether to go on.
func wants(r *report, path string, n *node, what, allowed string, kinds ...kind) bool {
	for _, k := range kinds {
		if n.kind == k {
			return true
		}
	}
	r.bad[path] = true
	switch {
	case n.kind == kindBad: // reported where it was found
	case n.kind == kindNull:
		r.fault(path, Error{Msg: "has no value; write " + what, Allowed: allowed})
	case n.kind == kindList || n.kind == kindMap:
		r.fault(path, Error{Msg: "must be " + what, Value: n.kind.String(), Allowed: allowed})
	case n.quoted:
		r.fault(path, Error{Msg: "must be " + what, Value: strconv.Quote(shorten(n.text)), Allowed: allowed})
	default:
		r.fault(path, Error{Msg: "must be " + what, Value: show(n.text), Allowed: allowed})
	}
	return false
}

var plainInt = regexp.MustCompile(`^(?:0|-?[1-9][0-9]*)$`)

func setInt(dst *int) func(*report, string, *node) {
	return func(r *report, path string, n *node) {
		what := "a whole number in plain decimal digits"
		switch plain := plainInt.MatchString(n.text) && !n.quoted; {
		case n.kind == kindFloat && plain: // so large that YAML makes a float of it
			n = &node{kind: kindInt, pos: n.pos, text: n.text}
		case n.kind == kindText || n.kind == kindFloat || n.kind == kindInt && !plain:
			if v, ok := wholeNumber(n.text); ok {
				what += fmt.Sprintf(", as in %d", v)
				if n.quoted {
					what += " without quotes"
				}
			}
			n = &node{kind: kindOther, pos: n.pos, text: n.text, quoted: n.quoted}
		}
		if !wants(r, path, n, what, ranges[path].String(), kindInt) {
			return
		}
		v, err := strconv.Atoi(n.text)
		if err != nil { // the only way left to fail is to be out of int's range
			far := math.MaxInt
			if strings.HasPrefix(n.text, "-") {
				far = math.MinInt
			}
			r.fault(path, ranges[path].fault(far, show(n.text)))
			return
		}
		*dst = v
	}
}

// wholeNumber returns the number that was likely meant by one in a notation
// that specs do not have. A leading zero may mean octal or nothing: no guess.
func wholeNumber(s string) (int64, bool) {
	if len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' {
		return 0, false
	}
	if v, err := strconv.ParseInt(s, 0, 64); err == nil {
		return v, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<53 {
		return 0, false
	}
	return int64(f), true
}

func setText[T ~string](dst *T) func(*report, string, *node) {
	return func(r *report, path string, n *node) {
		what := "text"
		if allowed := allowedText[path]; allowed != "" {
			what = "one of " + allowed
		}
		switch n.kind {
		case kindInt, kindFloat, kindBool, kindOther:
			if path == "model" {
				what += "; put it in quotes"
			}
		}
		if wants(r, path, n, what, freeText[path], kindText) {
			*dst = T(n.text)
		}
		if path == "model" && n.kind == kindText && !n.quoted && oldBool.MatchString(n.text) {
			r.fault(path, Error{Msg: "other YAML readers take this for a boolean; put it in quotes", Value: show(n.text)})
		}
	}
}

// setWord is setText for a field whose words may look like whole numbers.
func setWord[T ~string](dst *T) func(*report, string, *node) {
	return func(r *report, path string, n *node) {
		if n.kind == kindInt && plainInt.MatchString(n.text) {
			n = &node{kind: kindText, pos: n.pos, text: n.text, quoted: n.quoted}
		}
		setText(dst)(r, path, n)
	}
}

func setFloat(dst *float64) func(*report, string, *node) {
	return func(r *report, path string, n *node) {
		if !wants(r, path, n, "a number, as in 2.5 or 1e-6", floatRange[path], kindFloat, kindInt) {
			return
		}
		v, err := strconv.ParseFloat(n.text, 64)
		if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			r.fault(path, Error{Msg: "must be a number, as in 2.5 or 1e-6", Value: show(n.text), Allowed: floatRange[path]})
			return
		}
		*dst = v
	}
}

// oldBool is what YAML 1.1 takes for a boolean and yaml.v3 does not.
var oldBool = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$`)

func setList[T ~string](dst *[]T) func(*report, string, *node) {
	return func(r *report, path string, n *node) {
		what := "a list"
		if n.kind == kindText {
			what += ", as in [" + show(n.text) + "]"
		}
		if !wants(r, path, n, what, "some of "+allowedText[path], kindList) {
			return
		}
		*dst = nil
		for i, item := range n.items {
			sub := fmt.Sprintf("%s[%d]", path, i)
			r.where[sub] = item.pos
			var v T // stays empty, and marked bad, where the item is no text
			if wants(r, sub, item, "one of "+allowedText[path], "", kindText) {
				v = T(item.text)
			}
			*dst = append(*dst, v)
		}
	}
}

func setDuration(dst *time.Duration) func(*report, string, *node) {
	return func(r *report, path string, n *node) {
		what := "a duration with its unit, as in 500ms or 2s"
		if !wants(r, path, n, what, timeoutRange, kindText) {
			return
		}
		d, err := time.ParseDuration(n.text)
		if err != nil {
			r.fault(path, Error{Msg: "must be " + what, Value: show(n.text), Allowed: timeoutRange})
			return
		}
		*dst = d
	}
}
