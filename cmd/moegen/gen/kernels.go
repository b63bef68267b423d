package gen

import "github.com/moegen/moegen/spec"

// Kernel is a kernel of a generated source.
type Kernel struct {
	Name    string `json:"name"`
	Threads int    `json:"threads"` // per block
}

// Kernels lists the kernels of a spec's source in its order.
func Kernels(s *spec.Spec) []Kernel {
	d, launch := newKernelData(s), LaunchOf(s)
	var list []Kernel
	add := func(name string, threads int) { list = append(list, Kernel{Name: name, Threads: threads}) }
	if d.Unicast {
		add("moegen_counts", launch.CountThreads)
	}
	each := func(names []string) {
		for _, t := range d.Transports {
			for _, name := range names {
				add(name+t, launch.Threads)
			}
		}
	}
	each([]string{"moegen_dispatch_", "moegen_first_dispatch_"})
	if d.LowTokens > 0 {
		add("moegen_dispatch_ll", d.LowThreads)
		add("moegen_first_dispatch_ll", d.LowThreads)
	}
	each([]string{"moegen_combine_"})
	if d.LowTokens > 0 {
		add("moegen_combine_ll", d.LowThreads)
	}
	if d.Mixed {
		each([]string{"moegen_dispatch_mixed_", "moegen_first_dispatch_mixed_", "moegen_combine_mixed_"})
	}
	if d.NCCL {
		add("moegen_nccl_announce", 32)
		add("moegen_nccl_counts", launch.CountThreads)
		for _, name := range []string{"pad", "compact", "expand", "combine"} {
			add("moegen_nccl_"+name, launch.Threads)
		}
	}
	return list
}
