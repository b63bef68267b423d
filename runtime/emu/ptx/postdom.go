package ptx

// PostDominators returns, for each instruction, the index of its immediate
// post-dominator: the first instruction that every path from it reaches,
// where the lanes that a branch has parted meet again. len(f.Body) stands for
// the end of the kernel, also where no path ever leaves.
//
// A guarded exit and a trap count as going on: the lanes that are left do,
// and they are the ones that meet.
func (f *Func) PostDominators() []int {
	n := len(f.Body)
	succ := make([][]int, n)
	pred := make([][]int, n+1)
	for i := range f.Body {
		succ[i] = f.successors(i)
		for _, s := range succ[i] {
			pred[s] = append(pred[s], i)
		}
	}
	// Post-order of the reversed graph from the end.
	order := make([]int, n+1) // node -> number, 0 for unreached
	var nodes []int
	type frame struct{ node, next int }
	seen := make([]bool, n+1)
	stack := []frame{{n, 0}}
	seen[n] = true
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.next < len(pred[top.node]) {
			p := pred[top.node][top.next]
			top.next++
			if !seen[p] {
				seen[p] = true
				stack = append(stack, frame{p, 0})
			}
			continue
		}
		nodes = append(nodes, top.node)
		order[top.node] = len(nodes)
		stack = stack[:len(stack)-1]
	}
	// Cooper, Harvey and Kennedy's iteration.
	idom := make([]int, n+1)
	for i := range idom {
		idom[i] = -1
	}
	idom[n] = n
	for changed := true; changed; {
		changed = false
		for k := len(nodes) - 2; k >= 0; k-- {
			i := nodes[k]
			best := -1
			for _, s := range succ[i] {
				if idom[s] < 0 {
					continue
				}
				if best < 0 {
					best = s
					continue
				}
				a, b := s, best
				for a != b {
					for order[a] < order[b] {
						a = idom[a]
					}
					for order[b] < order[a] {
						b = idom[b]
					}
				}
				best = a
			}
			if best >= 0 && idom[i] != best {
				idom[i] = best
				changed = true
			}
		}
	}
	for i := range idom {
		if idom[i] < 0 {
			idom[i] = n
		}
	}
	return idom[:n]
}

// successors are the instructions that may follow i.
func (f *Func) successors(i int) []int {
	in := &f.Body[i]
	var next []int
	switch in.Op {
	case Bra:
		next = append(next, in.Target)
	case Brx:
		next = append(next, in.Targets...)
	case Exit:
		if in.Guard.Reg < 0 {
			return []int{len(f.Body)}
		}
		return []int{i + 1}
	default:
		return []int{i + 1}
	}
	if in.Guard.Reg >= 0 {
		next = append(next, i+1)
	}
	return next
}
