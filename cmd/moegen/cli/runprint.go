package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/moegen/moegen/cmd/moegen/doctor"
	"github.com/moegen/moegen/cmd/moegen/layer"
)

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// print writes the report for people. Ranks of a step that are alike in every
// respect but their tokens take one line, unless all is set.
func (r *runReport) print(w io.Writer, all bool) {
	fmt.Fprintf(w, "model      %s (%s), %s\n", r.Model, r.Shape, plural(r.Ranks, "rank"))
	if r.Backend != "" {
		fmt.Fprintf(w, "backend    %s (%s), %s, %s\n", r.Backend, r.Why, r.Driver, r.Device)
	}
	switch {
	case r.Seeds > 1:
		fmt.Fprintf(w, "mode       %s, %d schedules, seeds to %d; the last one:\n", r.Mode, r.Seeds, r.Seed)
	case r.Mode != "" && r.Mode != "fast":
		fmt.Fprintf(w, "mode       %s, seed %d\n", r.Mode, r.Seed)
	}
	for _, run := range r.Runs {
		fmt.Fprintln(w)
		run.print(w, r.Layers, all)
	}
	for _, c := range r.Comparisons {
		printComparison(w, c)
	}
	if r.Error != "" {
		fmt.Fprintln(w, "error:", r.Error)
	}
	fmt.Fprintf(w, "\n%s: %s\n", r.Model, verdictOf(r.OK))
}

func printComparison(w io.Writer, c *layer.Comparison) {
	outputs := fmt.Sprintf("so are all %d combined elements", c.Elements)
	if c.Equal < c.Elements {
		outputs = fmt.Sprintf("so are %d of %d combined elements, the others differ by up to %.2g wire ulp (%.0f%% of what rounding explains)",
			c.Equal, c.Elements, float64(c.MaxULP), 100*float64(c.MaxOfBound))
	}
	fmt.Fprintf(w, "\n%s against %s: gathered tensors are the same bits; %s: %s\n", c.A, c.B, outputs, verdictOf(c.OK()))
	for _, f := range c.Faults {
		fmt.Fprintln(w, "   ", f)
	}
}

func verdictOf(ok bool) string {
	if ok {
		return "ok"
	}
	return "FAILED"
}

func (t *transportRun) print(w io.Writer, layers int, all bool) {
	switch {
	case t.Skipped != "":
		fmt.Fprintf(w, "transport  %s: skipped: %s\n", t.Asked, t.Skipped)
		return
	case t.Error != "":
		fmt.Fprintf(w, "transport  %s: error: %s\n", t.Asked, t.Error)
		printAdvice(w, t.Advice)
		return
	}
	res := t.Result
	fmt.Fprintf(w, "transport  %s, memory %s\nkernels    %s; experts: %s\n", res.Transport, res.Provider, res.Image, res.Experts)
	for _, refusal := range res.Refusals {
		fmt.Fprintf(w, "refused    %s\n", refusal)
	}
	printAdvice(w, t.Advice)
	fmt.Fprintln(w)
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tab, "step\trank\ttokens\tgathered\tmax error\tof bound\tverdict\t")
	eager, replays, prefills := 0, 0, 0
	for _, s := range res.Steps {
		switch {
		case s.Prefill:
			prefills++
		case s.Graph:
			replays++
		default:
			eager++
		}
		printStep(tab, &s, all)
	}
	tab.Flush()
	for _, s := range res.Steps {
		printFaults(w, &s)
	}
	ran := plural(eager, "eager step") + " and " + plural(replays, "replay")
	if prefills > 0 {
		ran = fmt.Sprintf("%s, %s and %s", plural(eager, "eager step"), plural(replays, "replay"), plural(prefills, "prefill"))
	}
	fmt.Fprintf(w, "%s: %s of %s, largest error %.0f%% of what rounding explains, %.1fs\n",
		verdictOf(res.OK()), ran, plural(layers, "layer"), 100*res.MaxError(), t.Seconds)
}

// advise looks for the causes of what was refused and of what went wrong, which
// most ranks have in common.
func (t *transportRun) advise() {
	texts := []string{t.Error}
	if t.Result != nil {
		texts = append(texts, t.Result.Refusals...)
	}
	for _, text := range texts {
		if c := doctor.OfError(text); c != nil && !slices.Contains(t.Advice, c) {
			t.Advice = append(t.Advice, c)
		}
	}
}

func printAdvice(w io.Writer, causes []*doctor.Cause) {
	for _, c := range causes {
		fmt.Fprintf(w, "cause      %s\nremedy     %s\n", c.Cause, c.Remedy)
	}
}

// manyRanks is how many ranks get a line each without being asked for.
const manyRanks = 8

func printStep(w io.Writer, s *layer.Step, all bool) {
	ranks := s.Ranks
	if len(ranks) > manyRanks && !all {
		// One line for all: the fewest and most tokens, the largest errors.
		sum, least := ranks[0], ranks[0].Tokens
		for _, r := range ranks {
			least, sum.Tokens = min(least, r.Tokens), max(sum.Tokens, r.Tokens)
			sum.MaxError, sum.MaxAbsolute = max(sum.MaxError, r.MaxError), max(sum.MaxAbsolute, r.MaxAbsolute)
			sum.Faults = append(sum.Faults, r.Faults...)
		}
		printRank(w, s.Name(), fmt.Sprintf("0-%d", len(ranks)-1), fmt.Sprintf("%d-%d", least, sum.Tokens), &sum)
		return
	}
	name := s.Name()
	for i := range ranks {
		printRank(w, name, fmt.Sprint(ranks[i].Rank), fmt.Sprint(ranks[i].Tokens), &ranks[i])
		name = ""
	}
}

func printRank(w io.Writer, step, rank, tokens string, r *layer.Rank) {
	verdict := "ok"
	if !r.OK() {
		verdict = "WRONG"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%.2g\t%.0f%%\t%s\t\n", step, rank, tokens, r.Gathered, float64(r.MaxAbsolute), 100*float64(r.MaxError), verdict)
}

func printFaults(w io.Writer, s *layer.Step) {
	for _, r := range s.Ranks {
		for _, f := range r.Faults {
			fmt.Fprintf(w, "%s rank %d: %s\n", s.Name(), r.Rank, f)
		}
		if r.MoreFaults > 0 {
			fmt.Fprintf(w, "%s rank %d: %d more\n", s.Name(), r.Rank, r.MoreFaults)
		}
	}
}
