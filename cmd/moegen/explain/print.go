package explain

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Print writes the explanation for people.
func (x *Explanation) Print(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, at most %d tokens a rank\n", x.Model, x.Shape, x.MaxTokens)

	heading(w, "Transports, the first that all ranks can use")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range x.Transports {
		fmt.Fprintf(t, "  %s\t%s\n", r.Name, r.What)
	}
	t.Flush()

	if len(x.Transports) == 0 {
		fmt.Fprintln(w, "  none: there is one rank")
	}

	heading(w, "Kernels")
	for _, k := range x.Kernels {
		fmt.Fprintf(t, "  %s\t%d threads\t%s\n", k.Name, k.Threads, k.What)
	}
	t.Flush()

	heading(w, "Launches of dispatch and combine, by the most tokens a rank may bring (a graph's capacity)")
	fmt.Fprintf(w, "  plan: %s; sm_limit %d\n", x.Plan, x.SMLimit)
	fmt.Fprintln(t, "  tokens to\tprotocol\tblocks\tthreads\twhy")
	for _, l := range x.Launches {
		why := l.Why
		if l.Measured > 0 {
			why += fmt.Sprintf(": %.2f us a pair", l.Measured)
		}
		fmt.Fprintf(t, "  %d\t%s\t%d\t%d\t%s\n", l.Tokens, l.Protocol, l.Blocks, l.Threads, why)
	}
	t.Flush()

	heading(w, "On the wire")
	if x.Wire.Peers == 0 {
		fmt.Fprintln(w, "  nothing: there is one rank")
	} else {
		var parts []string
		for _, p := range x.Wire.Token {
			parts = append(parts, fmt.Sprintf("%s %d", p.Name, p.Bytes))
		}
		fmt.Fprintf(w, "  a token    %d bytes by dispatch (%s), %d by combine\n", x.Wire.Gather, strings.Join(parts, ", "), x.Wire.Reduce)
		fmt.Fprintf(w, "             %s\n", x.Wire.Comment)
		fmt.Fprintf(w, "  a layer    %s leave each GPU with %d tokens on every rank, for %s\n", size(uint64(x.Wire.Step)), x.MaxTokens, peers(x.Wire.Peers))
	}

	heading(w, "Memory of each GPU")
	for _, p := range x.Memory {
		fmt.Fprintf(t, "  %s\t%s\n", p.Name, size(p.Bytes))
	}
	fmt.Fprintf(t, "  together\t%s\n", size(x.Total))
	t.Flush()
	if slices.ContainsFunc(x.Transports, func(r Transport) bool { return r.Name == "nccl" }) {
		fmt.Fprintln(w, "  over nccl, what its calls need comes on top: padded copies of what travels")
	}

	x.printPredictions(w)

	heading(w, "Defaults")
	for _, d := range x.Defaults {
		fmt.Fprintf(t, "  %s\t%s\n", d.Field, d.Value)
	}
	t.Flush()
	if len(x.Defaults) == 0 {
		fmt.Fprintln(w, "  none: the spec says everything")
	}
}

func heading(w io.Writer, text string) { fmt.Fprintf(w, "\n%s\n", text) }

func (x *Explanation) printPredictions(w io.Writer) {
	if len(x.Predictions) == 0 {
		return
	}
	heading(w, "Predicted times in a graph, microseconds (moegen bench measures)")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "  tokens\t")
	for _, r := range x.Transports {
		fmt.Fprintf(t, "%s dispatch\tcombine\t", r.Name)
	}
	fmt.Fprintln(t)
	for _, p := range x.Predictions {
		fmt.Fprintf(t, "  %d\t", p.Tokens)
		for _, r := range x.Transports {
			fmt.Fprintf(t, "%.2f\t%.2f\t", p.Times[r.Name].Dispatch, p.Times[r.Name].Combine)
		}
		fmt.Fprintln(t)
	}
	t.Flush()
	for _, m := range x.Models {
		fmt.Fprintf(w, "  %-4s  dispatch %.2f us + bytes / %.0f GB/s, combine %.2f us + bytes / %.0f GB/s; up to %.0f%% and %.0f%% off its measurements:\n        %s\n",
			m.Way, m.Dispatch.Start, m.Dispatch.GBs, m.Combine.Start, m.Combine.GBs, 100*m.Dispatch.Error, 100*m.Combine.Error, m.Dispatch.On)
	}
	for _, r := range x.Transports {
		switch r.Name {
		case "nvls":
			fmt.Fprintln(w, "  nvls was never measured: it is taken for p2p, whose bytes each GPU receives as well")
		case "nccl":
			fmt.Fprintln(w, "  nccl: NCCL's calls alone, without moegen's kernels around them")
		}
	}
	fmt.Fprintf(w, "  The models are of each size's best grid; with sm_limit %d it may have fewer blocks.\n", x.SMLimit)
	if x.Wire.Peers != 1 && x.Wire.Peers != 3 {
		fmt.Fprintln(w, "  Measurements are of two and of four GPUs: others are an extrapolation, with starts that grow with the peers.")
	}
}

func peers(n int) string {
	if n == 1 {
		return "1 peer"
	}
	return fmt.Sprintf("%d peers", n)
}

// size writes bytes with at most four digits.
func size(n uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v, unit := float64(n), 0
	for v >= 1024 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[unit])
}
