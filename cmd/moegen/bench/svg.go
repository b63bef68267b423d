package bench

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// series is a line of a plot: one point for each row that has the value.
type series struct {
	name, colour string
	dashed       bool
	value        func(*Row) float64 // 0 for none
}

func median(t *Time) float64 {
	if t == nil {
		return 0
	}
	return t.Median
}

// SVG draws two plots over the tokens of a rank, both axes logarithmic: the
// latency of dispatch and combine beside NCCL's and the floor, and what they are
// to the floor.
func (x *Result) SVG() []byte {
	const blue, orange, grey = "#1f6feb", "#d9730d", "#8c959f"
	reduceFloor := func(r *Row) float64 { return r.CombineBound }
	gatherFloor := func(r *Row) float64 { return r.DispatchBound }
	latency := []series{
		{"dispatch", blue, false, func(r *Row) float64 { return median(r.Dispatch) }},
		{"NCCL, best all-gathers", blue, true, func(r *Row) float64 { return r.NCCL.BestGather() }},
		{"combine", orange, false, func(r *Row) float64 { return median(r.Combine) }},
		{"NCCL, best reduce-scatter", orange, true, func(r *Row) float64 { return r.NCCL.BestReduce() }},
		{"floor", grey, false, gatherFloor},
	}
	over := func(s series, floor func(*Row) float64) series {
		value := s.value
		s.value = func(r *Row) float64 { return value(r) / floor(r) }
		return s
	}
	ratios := []series{over(latency[0], gatherFloor), over(latency[1], gatherFloor), over(latency[2], reduceFloor), over(latency[3], reduceFloor),
		{"floor", grey, false, func(*Row) float64 { return 1 }}}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="1120" height="500" font-family="sans-serif" font-size="13">
<rect width="1120" height="500" fill="white"/>
`)
	title := fmt.Sprintf("%s, %d ranks: %s, transport %s", x.Model, x.Ranks, x.Machine, x.Transport)
	switch {
	case x.Emulated:
		title = "EMULATED, times mean nothing: " + title
	case x.Shared:
		title = "RANKS SHARE A GPU: " + title
	}
	text(&b, 20, 28, `font-size="16"`, title)
	x.plot(&b, 70, "latency, us", latency)
	x.plot(&b, 630, "times the floor", ratios)
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

func text(b *strings.Builder, x, y float64, style, s string) {
	fmt.Fprintf(b, "<text x=\"%.0f\" y=\"%.0f\" %s>%s</text>\n", x, y, style, html.EscapeString(s))
}

// plot draws one plot whose axes meet at left.
func (x *Result) plot(b *strings.Builder, left float64, label string, lines []series) {
	const top, width, height = 90.0, 450.0, 340.0
	lowX, highX, lowY, highY := math.Inf(1), 0.0, math.Inf(1), 0.0
	for _, r := range x.Rows {
		lowX, highX = min(lowX, float64(r.Tokens)), max(highX, float64(r.Tokens))
		for _, s := range lines {
			if v := s.value(r); v > 0 {
				lowY, highY = min(lowY, v), max(highY, v)
			}
		}
	}
	if highY == 0 {
		return // nothing was measured
	}
	highX = max(highX, 2*lowX)
	lowY, highY = math.Exp2(math.Floor(math.Log2(lowY))), math.Exp2(math.Ceil(math.Log2(highY*1.001)))
	at := func(v, low, high float64) float64 { return math.Log(v/low) / math.Log(high/low) }
	px := func(v float64) float64 { return left + width*at(v, lowX, highX) }
	py := func(v float64) float64 { return top + height*(1-at(v, lowY, highY)) }
	text(b, left, top-16, `font-weight="bold"`, label)
	text(b, left+width, top+height+40, `text-anchor="end"`, "tokens a rank")
	for v := lowY; v <= highY; v *= 2 {
		fmt.Fprintf(b, "<path d=\"M%.1f %.1fh%.0f\" stroke=\"#d8dee4\"/>\n", left, py(v), width)
		text(b, left-8, py(v)+4, `text-anchor="end"`, fmt.Sprintf("%g", v))
	}
	for v := math.Exp2(math.Ceil(math.Log2(lowX))); v <= highX; v *= 4 {
		fmt.Fprintf(b, "<path d=\"M%.1f %.1fv%.0f\" stroke=\"#d8dee4\"/>\n", px(v), top, height)
		text(b, px(v), top+height+20, `text-anchor="middle"`, fmt.Sprintf("%g", v))
	}
	key := top + 14
	for _, s := range lines {
		dash, path := "", ""
		if s.dashed {
			dash = ` stroke-dasharray="6 4"`
		}
		for _, r := range x.Rows {
			if v := s.value(r); v > 0 {
				path += fmt.Sprintf("%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[path == ""], px(float64(r.Tokens)), py(v))
			}
		}
		if path == "" {
			continue
		}
		fmt.Fprintf(b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s/>\n", path, s.colour, dash)
		fmt.Fprintf(b, "<path d=\"M%.0f %.0fh28\" stroke=\"%s\" stroke-width=\"2\"%s/>\n", left+10, key-4, s.colour, dash)
		text(b, left+46, key, "", s.name)
		key += 18
	}
}
