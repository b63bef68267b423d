package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What the language allows, one place for each field.
var (
	dtypes        = []DType{BF16, FP16, FP32}
	routingDTypes = []DType{Int16, Int32, Int64}
	probsDTypes   = []DType{FP32, BF16}
	quantizes     = []Quantize{QuantizeNone, QuantizeFP8}
	orders        = []Order{OrderAny, OrderRank}
	layouts       = []Layout{Compact, Padded}
	routingFills  = []RoutingFill{FillNone, FillMinusOne}
	inputs        = []DType{FP8, FP4}
	scaleDTypes   = []DType{FP32, FP8, UE8M0}
	scaleBlocks   = []int{16, 32, 64, 128}
	outputs       = []DType{BF16, FP16, FP32, FP8Block128}
	epilogues     = []Epilogue{AddShared, Scale, Residual, RMSNorm} // in the order in which they apply
	archs         = []string{"sm_90a", "sm_100a"}
	transports    = []Transport{NVLS, P2P, NCCL}

	ranges = map[string]span{
		"version":     {Version, Version},
		"topk":        {1, 32},
		"num_experts": {0, 65536},
		"ep_size":     {1, 72},
		"max_tokens":  {1, 65536},
		"sm_limit":    {1, 132},

		"max_prefill_tokens":   {0, 1 << 20},
		"dispatch.scale_block": {16, 128}, // checkInput says more

		"hidden_dim": {4, maxRow / 2}, // over all dtypes; checkHidden says more
	}

	// allowedText is what messages about values that are not even text say.
	allowedText = map[string]string{
		"dtype": list(dtypes), "routing_dtype": list(routingDTypes), "probs_dtype": list(probsDTypes),
		"layout": list(layouts), "routing_fill": list(routingFills), "dispatch.input": list(inputs),
		"dispatch.scale_dtype": list(scaleDTypes), "combine.output": list(outputs), "combine.rmsnorm.weight": list(dtypes),
		"dispatch.quantize": list(quantizes), "combine.wire": list(dtypes), "combine.order": list(orders),
		"combine.epilogue": list(epilogues), "arch": list(archs), "transports": list(transports),
	}
)

// floatRange is what numbers that need not be whole may be.
var floatRange = map[string]string{"combine.scale": "-1e6..1e6, not 0", "combine.rmsnorm.eps": "0..1"}

// freeText is what text that is not one of a few may be.
var freeText = map[string]string{
	"model": "1 to 64 of a-z A-Z 0-9 . _ -, starting with a letter or digit",
	"from":  "the path of a config.json, relative to the spec",
}

const (
	scaleBlock = 128 // elements that share a scale where moegen quantises

	rowAlign     = 16      // bytes: what one thread moves at a time
	maxRow       = 1 << 20 // bytes
	maxGather    = 16 << 30
	minTimeout   = time.Millisecond
	maxTimeout   = 10 * time.Minute
	timeoutRange = "1ms..10m"
	maxModel     = 64 // bytes
)

// span is a range of whole numbers, both ends in it.
type span struct{ lo, hi int }

func (s span) String() string {
	if s.lo == s.hi {
		return strconv.Itoa(s.lo)
	}
	return fmt.Sprintf("%d..%d", s.lo, s.hi)
}

// check reports every mistake in the values of s, of single fields first, then
// of fields against each other where these are sound in themselves.
func check(s *Spec, r *report) {
	checkRange(r, "version", s.Version)
	checkModel(s, r)
	checkEnum(r, "dtype", s.DType, dtypes)
	checkHidden(s, r)
	checkRange(r, "topk", s.TopK)
	checkRange(r, "num_experts", s.NumExperts)
	checkRange(r, "ep_size", s.EPSize)
	checkRange(r, "max_tokens", s.MaxTokens)
	checkEnum(r, "routing_dtype", s.RoutingDType, routingDTypes)
	checkEnum(r, "probs_dtype", s.ProbsDType, probsDTypes)
	checkPrefill(s, r)
	checkEnum(r, "layout", s.Layout, layouts)
	checkEnum(r, "routing_fill", s.RoutingFill, routingFills)
	checkEnum(r, "dispatch.quantize", s.Dispatch.Quantize, quantizes)
	checkInput(s, r)
	checkWire(s, r)
	checkEnum(r, "combine.order", s.Combine.Order, orders)
	checkEpilogue(s, r)
	checkList(r, "arch", s.Arch, archs)
	checkList(r, "transports", s.Transports, transports)
	checkNotEmpty(r, "arch", len(s.Arch), list(archs))
	checkNotEmpty(r, "transports", len(s.Transports), list(transports))
	checkRange(r, "sm_limit", s.SMLimit)
	if !r.bad["timeout"] && (s.Timeout < minTimeout || s.Timeout > maxTimeout) {
		nearest := "1ms"
		if s.Timeout > maxTimeout {
			nearest = "10m"
		}
		r.fault("timeout", Error{Msg: "out of range; the nearest is " + nearest, Value: s.Timeout.String(), Allowed: timeoutRange})
	}
	checkExperts(s, r)
	checkBuffers(s, r)
}

func (r *report) sound(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(p string) bool { return r.bad[p] })
}

func checkRange(r *report, path string, v int) {
	if s := ranges[path]; r.sound(path) && (v < s.lo || v > s.hi) {
		r.fault(path, s.fault(v, strconv.Itoa(v)))
	}
}

// fault is the mistake of a number that is not in the range.
func (s span) fault(v int, text string) Error {
	return Error{Msg: fmt.Sprintf("out of range; the nearest is %d", min(max(v, s.lo), s.hi)), Value: text, Allowed: s.String()}
}

func checkEnum[T ~string](r *report, path string, v T, allowed []T) {
	if !r.sound(path) || slices.Contains(allowed, v) {
		return
	}
	e := Error{Msg: "not one of the allowed values", Value: show(string(v)), Allowed: list(allowed)}
	if s := suggest(string(v), texts(allowed)); s != "" {
		e.Msg += "; did you mean " + s + "?"
	}
	r.fault(path, e)
}

func checkList[T ~string](r *report, path string, l []T, allowed []T) {
	seen := make(map[T]bool)
	for i, v := range l {
		sub := fmt.Sprintf("%s[%d]", path, i)
		checkEnum(r, sub, v, allowed)
		if r.sound(sub) && seen[v] {
			r.fault(sub, Error{Msg: "given twice; once is enough", Value: show(string(v))})
		}
		seen[v] = true
	}
}

func checkNotEmpty(r *report, path string, n int, allowed string) {
	if r.sound(path) && n == 0 {
		r.fault(path, Error{Msg: "must not be empty; leave the key out for the default", Value: "[]", Allowed: "some of " + allowed})
	}
}

func modelChar(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-", c) >= 0
}

// checkModel keeps out of a name whatever could end a comment or a string in
// generated code.
func checkModel(s *Spec, r *report) {
	ok := s.Model != "" && len(s.Model) <= maxModel && !strings.ContainsRune("._-", rune(s.Model[0]))
	for i := 0; ok && i < len(s.Model); i++ {
		ok = modelChar(s.Model[i])
	}
	if r.sound("model") && !ok {
		r.fault("model", Error{Msg: "not a name for generated code to carry", Value: show(s.Model),
			Allowed: freeText["model"]})
	}
}

func checkHidden(s *Spec, r *report) {
	if !r.sound("hidden_dim") {
		return
	}
	size := s.DType.Size()
	if !r.sound("dtype") || size == 0 {
		checkRange(r, "hidden_dim", s.HiddenDim)
		return
	}
	step, hi := rowAlign/size, maxRow/size
	if s.HiddenDim >= step && s.HiddenDim <= hi && s.HiddenDim%step == 0 {
		return
	}
	e := Error{Value: strconv.Itoa(s.HiddenDim), Allowed: fmt.Sprintf("multiples of %d from %d to %d", step, step, hi)}
	switch below := s.HiddenDim / step * step; {
	case s.HiddenDim < step:
		e.Msg = fmt.Sprintf("out of range; the nearest is %d", step)
	case s.HiddenDim > hi:
		e.Msg = fmt.Sprintf("out of range; the nearest is %d", hi)
	default:
		e.Msg = fmt.Sprintf("a row of %s must be a multiple of %d bytes; the nearest are %d and %d", s.DType, rowAlign, below, below+step)
	}
	r.fault("hidden_dim", e)
}

// checkWire allows the dtype itself, which costs nothing to convert, and fp32.
func checkWire(s *Spec, r *report) {
	allowed := dtypes
	if r.sound("dtype") {
		allowed = []DType{s.DType, FP32}
		if s.DType == FP32 {
			allowed = allowed[:1]
		}
	} else if s.Combine.Wire == s.DType { // blamed already
		return
	}
	checkEnum(r, "combine.wire", s.Combine.Wire, allowed)
}

func checkExperts(s *Spec, r *report) {
	if s.NumExperts == 0 || !r.sound("num_experts") {
		return
	}
	lo, hi, msg := ranges["num_experts"].lo, ranges["num_experts"].hi, ""
	if r.sound("ep_size") && s.NumExperts < s.EPSize {
		lo, msg = max(lo, s.EPSize), fmt.Sprintf("fewer experts than ep_size: %d ranks need at least one each", s.EPSize)
	}
	if r.sound("topk") && s.NumExperts < s.TopK && s.TopK > lo {
		lo, msg = s.TopK, fmt.Sprintf("fewer experts than topk: a token cannot go to %d different ones", s.TopK)
	}
	if s.RoutingDType == Int16 && s.NumExperts > 1<<15-1 {
		hi, msg = 1<<15-1, "too many experts for routing_dtype int16; use int32 or fewer experts"
	}
	if msg != "" {
		r.fault("num_experts", Error{Msg: msg, Value: strconv.Itoa(s.NumExperts), Allowed: span{max(lo, 1), hi}.String()})
	}
}

// checkBuffers bounds what one rank allocates for gathered hidden states, so
// that a spec with a digit too many fails here and not on the GPU.
func checkBuffers(s *Spec, r *report) {
	if !r.sound("hidden_dim", "dtype", "ep_size", "max_tokens") {
		return
	}
	perToken := int64(s.EPSize) * int64(s.HiddenRowBytes())
	if total := perToken * int64(s.MaxTokens); total > maxGather {
		r.fault("max_tokens", Error{
			Msg: fmt.Sprintf("the gather buffer of ep_size %d × max_tokens %d × %d bytes a row takes %.1f GiB on every rank; the limit is %d GiB",
				s.EPSize, s.MaxTokens, s.HiddenRowBytes(), float64(total)/(1<<30), maxGather>>30),
			Value: strconv.Itoa(s.MaxTokens), Allowed: span{1, int(maxGather / perToken)}.String()})
	}
}

// normalise gives equal specs equal fields: sets in the order of their allowed
// lists, and nil for empty.
func (s *Spec) normalise() {
	byIndex(s.Arch, archs)
	byIndex(s.Transports, transports)
	if len(s.Combine.Epilogue) == 0 {
		s.Combine.Epilogue = nil
	}
}

func byIndex[T comparable](l, order []T) {
	slices.SortFunc(l, func(a, b T) int { return cmp.Compare(slices.Index(order, a), slices.Index(order, b)) })
}

func texts[T ~string](l []T) []string {
	out := make([]string, len(l))
	for i, v := range l {
		out[i] = string(v)
	}
	return out
}

func list[T ~string](l []T) string { return strings.Join(texts(l), ", ") }
