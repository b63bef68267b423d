package spec

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// checkPrefill checks max_prefill_tokens against max_tokens.
func checkPrefill(s *Spec, r *report) {
	checkRange(r, "max_prefill_tokens", s.MaxPrefillTokens)
	if r.sound("max_prefill_tokens", "max_tokens") && s.MaxPrefillTokens != 0 && s.MaxPrefillTokens < s.MaxTokens {
		r.fault("max_prefill_tokens", Error{Msg: fmt.Sprintf("fewer than max_tokens, %d", s.MaxTokens),
			Value: strconv.Itoa(s.MaxPrefillTokens), Allowed: "0, or " + span{s.MaxTokens, ranges["max_prefill_tokens"].hi}.String()})
	}
}

// checkInput checks what concerns quantised hidden states.
func checkInput(s *Spec, r *report) {
	d := &s.Dispatch
	if d.Quantize == QuantizeFP8 && r.sound("dispatch.quantize") {
		switch {
		case d.Input != "" && r.sound("dispatch.input"):
			r.fault("dispatch.quantize", Error{Msg: "hidden states that come quantised (dispatch.input) cannot be quantised again; use none", Value: string(d.Quantize)})
		case r.sound("hidden_dim"):
			checkBlocks(s, r, "dispatch.quantize", string(d.Quantize))
		}
	}
	if d.Input == "" {
		for path, given := range map[string]bool{"dispatch.scale_dtype": d.ScaleDType != "", "dispatch.scale_block": d.ScaleBlock != 0} {
			if given && r.sound(path, "dispatch.input") {
				r.fault(path, Error{Msg: "means nothing without dispatch.input; leave it out"})
			}
		}
		return
	}
	checkEnum(r, "dispatch.input", d.Input, inputs)
	if d.ScaleDType == "" && r.sound("dispatch.scale_dtype") {
		r.fault("dispatch.scale_dtype", Error{Msg: "required with dispatch.input", Allowed: list(scaleDTypes)})
	}
	checkEnum(r, "dispatch.scale_dtype", d.ScaleDType, scaleDTypes)
	if r.sound("dispatch.scale_block") && !slices.Contains(scaleBlocks, d.ScaleBlock) {
		e := Error{Msg: "not one of the allowed values", Value: strconv.Itoa(d.ScaleBlock), Allowed: "16, 32, 64, 128"}
		if d.ScaleBlock == 0 {
			e.Msg, e.Value = "required with dispatch.input", ""
		}
		r.fault("dispatch.scale_block", e)
	}
	if !r.sound("hidden_dim", "dtype", "dispatch.input", "dispatch.scale_dtype", "dispatch.scale_block") {
		return
	}
	step := rowAlign * 8 / bits(d.Input) // elements
	if s.HiddenDim%step != 0 {
		r.fault("dispatch.input", Error{Msg: fmt.Sprintf("a row of %d elements of %s is not a multiple of %d bytes; the nearest hidden_dim are %s",
			s.HiddenDim, d.Input, rowAlign, nearest(s.HiddenDim, step)), Value: string(d.Input)})
	} else if s.HiddenDim%d.ScaleBlock != 0 {
		r.fault("dispatch.scale_block", Error{Msg: fmt.Sprintf("hidden_dim %d is not a multiple of it; the nearest hidden_dim are %s",
			s.HiddenDim, nearest(s.HiddenDim, d.ScaleBlock)), Value: strconv.Itoa(d.ScaleBlock), Allowed: "16, 32, 64, 128"})
	} else if s.ScaleRowBytes()%2 != 0 {
		r.fault("dispatch.scale_block", Error{Msg: fmt.Sprintf("a row of %d scales of one byte is not a multiple of 2 bytes; use a smaller block, or scale_dtype fp32",
			s.HiddenDim/d.ScaleBlock), Value: strconv.Itoa(d.ScaleBlock)})
	}
}

// checkBlocks wants hidden_dim to be whole blocks of 128 for a field that asks
// for quantisation.
func checkBlocks(s *Spec, r *report, path, value string) {
	if s.HiddenDim%scaleBlock != 0 {
		r.fault(path, Error{Msg: fmt.Sprintf("%s needs a hidden_dim that is a multiple of %d, and it is %d; the nearest are %s",
			value, scaleBlock, s.HiddenDim, nearest(s.HiddenDim, scaleBlock)), Value: value})
	}
}

// nearest names the multiples of step on both sides of n.
func nearest(n, step int) string {
	below := n / step * step
	if below == 0 {
		return strconv.Itoa(step)
	}
	return fmt.Sprintf("%d and %d", below, below+step)
}

// checkEpilogue checks the epilogues and what each of them needs.
func checkEpilogue(s *Spec, r *report) {
	c := &s.Combine
	checkList(r, "combine.epilogue", c.Epilogue, epilogues)
	last := -1
	for i, e := range c.Epilogue {
		sub := fmt.Sprintf("combine.epilogue[%d]", i)
		at := slices.Index(epilogues, e)
		if r.sound(sub) && at < last {
			r.fault(sub, Error{Msg: fmt.Sprintf("comes before %s", c.Epilogue[i-1]), Value: show(string(e)), Allowed: list(epilogues) + ", in this order"})
		}
		last = max(last, at)
	}
	switch needs := c.Has(Scale); {
	case !r.sound("combine.scale"):
	case needs && c.Scale == 0:
		r.fault("combine.scale", Error{Msg: "required with the epilogue scale", Allowed: floatRange["combine.scale"]})
	case !needs && c.Scale != 0:
		r.fault("combine.scale", Error{Msg: "means nothing without the epilogue scale: leave it out, or add scale to combine.epilogue", Value: number(c.Scale)})
	case needs && float32(c.Scale) == 0:
		r.fault("combine.scale", Error{Msg: "rounds to 0 in fp32", Value: number(c.Scale), Allowed: floatRange["combine.scale"]})
	case !(math.Abs(c.Scale) <= 1e6):
		r.fault("combine.scale", Error{Msg: "out of range", Value: number(c.Scale), Allowed: floatRange["combine.scale"]})
	}
	const weight, eps = "combine.rmsnorm.weight", "combine.rmsnorm.eps"
	switch needs := c.Has(RMSNorm); {
	case !r.sound("combine.rmsnorm", weight):
	case needs && c.RMSNorm.Weight == "":
		r.fault(weight, Error{Msg: "required with the epilogue rmsnorm: the element type of the weight vector", Allowed: list(dtypes)})
	case !needs && c.RMSNorm.Weight != "":
		r.fault(weight, Error{Msg: "means nothing without the epilogue rmsnorm: leave it out, or add rmsnorm to combine.epilogue", Value: show(string(c.RMSNorm.Weight))})
	case needs:
		checkEnum(r, weight, c.RMSNorm.Weight, dtypes)
	}
	if _, given := r.where[eps]; given && r.sound(eps) && !c.Has(RMSNorm) {
		r.fault(eps, Error{Msg: "means nothing without the epilogue rmsnorm: leave it out, or add rmsnorm to combine.epilogue", Value: number(c.RMSNorm.Eps)})
	}
	if r.sound("combine.rmsnorm", eps) && !(c.RMSNorm.Eps >= 0 && c.RMSNorm.Eps <= 1) {
		r.fault(eps, Error{Msg: "out of range", Value: number(c.RMSNorm.Eps), Allowed: floatRange[eps]})
	}
	if c.Output == s.DType && !r.sound("dtype") { // blamed already
		return
	}
	checkEnum(r, "combine.output", c.Output, outputs)
	if c.Output == FP8Block128 && r.sound("combine.output", "hidden_dim") {
		checkBlocks(s, r, "combine.output", string(c.Output))
	}
}
