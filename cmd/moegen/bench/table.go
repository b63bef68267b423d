package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Print writes the result for people: times in microseconds, and what they are
// to the floor and to NCCL's best way.
func (x *Result) Print(w io.Writer) {
	fmt.Fprintf(w, "model      %s (%s), %d ranks\n", x.Model, x.Shape, x.Ranks)
	fmt.Fprintf(w, "machine    %s, transport %s, kernels %s\n", x.Machine, x.Transport, x.Kernels)
	switch {
	case x.Emulated:
		fmt.Fprintln(w, "EMULATED   a dry run: its clock counts operations, so no time below means anything")
	case x.Shared:
		fmt.Fprintln(w, "SHARED     ranks share a GPU: times say nothing about a link")
	}
	switch {
	case x.NoNCCL != "":
		fmt.Fprintf(w, "baseline   none: %s\n", x.NoNCCL)
	case x.NoWindows != "":
		fmt.Fprintf(w, "baseline   %s, without symmetric windows: %s\n", x.NCCL, x.NoWindows)
	case x.NCCL != "":
		fmt.Fprintf(w, "baseline   %s, with symmetric windows\n", x.NCCL)
	}
	f := x.Floor
	fmt.Fprintf(w, "floor      empty node %.2f us, one-way flag %.2f us (release and acquire: %.2f us), peer copy %.0f GB/s\n",
		f.EmptyNode, f.Flag, f.OrderedFlag, f.PeerCopyGBs)
	fmt.Fprintf(w, "link       copies both ways %.0f GB/s, stores %.0f GB/s, stores both ways %.0f GB/s\n", f.BothCopyGBs, f.StoreGBs, f.BothStoreGBs)
	x.printRows(w)
	x.printNCCL(w)
	x.printSteps(w)
	x.printSkew(w)
}

func table(w io.Writer) *tabwriter.Writer {
	fmt.Fprintln(w)
	return tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
}

// cell is a median, or a dash.
func cell(t *Time) string {
	if t == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", t.Median)
}

func p99(t *Time) string {
	if t == nil {
		return "-"
	}
	return fmt.Sprintf("%.2f", t.P99)
}

// ratio is a/b, or a dash.
func ratio(a *Time, b float64) string {
	if a == nil || b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", a.Median/b)
}

// faster is how many times faster a is than b.
func faster(a *Time, b float64) string {
	if a == nil || b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fx", b/a.Median)
}

func bandwidth(t *Time, bytes int) string {
	if t == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", float64(bytes)/(t.Median*1e3))
}

func (x *Result) printRows(w io.Writer) {
	t := table(w)
	fmt.Fprintln(t, "tokens\tlaunch\tdispatch\tp99\tfloor\tof floor\tstores\tGB/s\tNCCL\t\tcombine\tp99\tfloor\tof floor\tGB/s\tNCCL\t\tpair\tp99\t")
	for _, r := range x.Rows {
		gather, reduce := r.NCCL.BestGather(), r.NCCL.BestReduce()
		launch := "-"
		if r.Protocol != "" {
			launch = fmt.Sprintf("%s %dx%d", r.Protocol, r.Blocks, r.Threads)
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%.2f\t%s\t%s\t%s\t%.2f\t%s\t%s\t%s\t%.2f\t%s\t%s\t%.2f\t%s\t%.2f\t%.2f\t\n", r.Tokens, launch,
			cell(r.Dispatch), p99(r.Dispatch), r.DispatchBound, ratio(r.Dispatch, r.DispatchBound), cell(r.Stores), bandwidth(r.Dispatch, r.DispatchBytes), gather, faster(r.Dispatch, gather),
			cell(r.Combine), p99(r.Combine), r.CombineBound, ratio(r.Combine, r.CombineBound), bandwidth(r.Combine, r.CombineBytes), reduce, faster(r.Combine, reduce),
			r.Pair.Median, r.Pair.P99)
	}
	t.Flush()
	fmt.Fprintln(w, "microseconds, medians; stores: a kernel that only stores the dispatch's bytes to the other ranks, all at once;")
	fmt.Fprintln(w, "NCCL: its fastest way, and how many times slower it is; pair: dispatch and combine in turn")
}

func (x *Result) printNCCL(w io.Writer) {
	if len(x.Rows) == 0 || x.Rows[0].NCCL == nil {
		return
	}
	t := table(w)
	fmt.Fprintln(t, "tokens\t3 all-gathers\tin one group\tsymmetric\treduce-scatter bf16\tsymmetric\tfp32\tsymmetric\t")
	for _, r := range x.Rows {
		n := r.NCCL
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Tokens, cell(n.ThreeAllGathers), cell(n.Grouped), cell(n.SymmetricGrouped),
			cell(n.ReduceBF16), cell(n.SymmetricReduceBF16), cell(n.ReduceFP32), cell(n.SymmetricReduceFP32))
	}
	t.Flush()
	fmt.Fprintln(w, "NCCL in the same run, microseconds, medians")
}

func (x *Result) printSteps(w io.Writer) {
	t := table(w)
	fmt.Fprintf(t, "tokens\tstep of %d layers\tp99\texperts\tcommunication a layer\twithout a graph\tBeginStep\tcaptured for this, replayed with fewer\t\n", x.Layers)
	for _, r := range x.Rows {
		fewer := ""
		for _, f := range r.Fewer {
			fewer += fmt.Sprintf("  %d: %.2f", f.Tokens, f.Pair.Median)
			if f.Ratio > 0 {
				fewer += fmt.Sprintf(" (%.2fx)", f.Ratio)
			}
		}
		fmt.Fprintf(t, "%d\t%.1f\t%.1f\t%.1f\t%.2f\t%.2f\t%s\t%s\t\n", r.Tokens, r.Step.Median, r.Step.P99, r.Experts.Median,
			r.Communication(x.Layers), r.Eager.Median, cell(r.Counts), fewer)
	}
	t.Flush()
	fmt.Fprintln(w, "a step: counts in band, then dispatch, experts and combine in turn, in one graph; (1.00x: as fast as a graph captured for so few)")
}

func (x *Result) printSkew(w io.Writer) {
	if len(x.Skew) == 0 {
		return
	}
	fmt.Fprint(w, "\nrank 0 late by   ")
	for _, s := range x.Skew {
		fmt.Fprintf(w, "%8.2f", s.Late)
	}
	fmt.Fprint(w, "  us\nothers longer by ")
	for _, s := range x.Skew {
		fmt.Fprintf(w, "%8.2f", s.Others)
	}
	fmt.Fprintln(w, "  us")
}
