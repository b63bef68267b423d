package bench

import (
	"fmt"
	"io"
)

// PrintChanges compares with an earlier result: a ratio below 1 is faster than
// then. It returns an error where the two are not comparable.
func (x *Result) PrintChanges(w io.Writer, before *Result) error {
	if before.Model != x.Model || before.Ranks != x.Ranks || before.Shape != x.Shape {
		return fmt.Errorf("the baseline is of %s (%s), %d ranks, and this is %s (%s), %d ranks",
			before.Model, before.Shape, before.Ranks, x.Model, x.Shape, x.Ranks)
	}
	old := map[int]*Row{}
	for _, r := range before.Rows {
		old[r.Tokens] = r
	}
	t := table(w)
	fmt.Fprintln(t, "tokens\tdispatch\tbefore\t\tcombine\tbefore\t\tpair\tbefore\t\tstep\tbefore\t\t")
	common := 0
	for _, r := range x.Rows {
		b := old[r.Tokens]
		if b == nil {
			continue
		}
		common++
		fmt.Fprintf(t, "%d\t", r.Tokens)
		for _, c := range [][2]*Time{{r.Dispatch, b.Dispatch}, {r.Combine, b.Combine}, {&r.Pair, &b.Pair}, {&r.Step, &b.Step}} {
			then := 0.0
			if c[1] != nil {
				then = c[1].Median
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t", cell(c[0]), cell(c[1]), ratio(c[0], then))
		}
		fmt.Fprintln(t)
	}
	if common == 0 {
		return fmt.Errorf("the baseline has none of these token counts")
	}
	t.Flush()
	fmt.Fprintln(w, "the third of each: the time as a part of what it was")
	for _, d := range [][3]string{{"machine", before.Machine, x.Machine}, {"transport", string(before.Transport), string(x.Transport)}} {
		if d[1] != d[2] {
			fmt.Fprintf(w, "another %s: before %s, now %s\n", d[0], d[1], d[2])
		}
	}
	return nil
}
