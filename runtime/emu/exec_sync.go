package emu

import (
	"fmt"
	"unsafe"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

func ptrOf(s []uint64) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s)) }

// syncOp is an instruction for which the lanes of a member mask meet. Lanes may
// come in several splits, even by different instructions of one kind: each
// brings its operands, and the last to come computes for all.
type syncOp struct {
	key     string // operation and qualifiers: only equals meet
	members int32  // slot of the member mask
	a, b, c int32
	p       int32 // predicate source, -1: none
	px      uint32
	d       int32 // destination register, -1: none
	dp      int32 // destination predicate, -1: none
	compute func(st *syncState, lanes uint32)
}

// syncState holds, per lane, what has been brought and what comes of it.
type syncState struct {
	arrived uint32
	votes   uint32
	outp    uint32
	members [32]uint32
	op      [32]*syncOp
	a, b, c vec
	out     vec
}

func (l *lowerer) lowerWarpSync(out *inst, in *ptx.Instr) bool {
	o := &syncOp{key: fmt.Sprint(in.Op, in.Type, in.Shfl, in.Vote, in.Atom), p: -1, d: -1, dp: -1}
	zero := l.imm(0)
	o.a, o.b, o.c = zero, zero, zero
	o.members = l.src(in.Src[len(in.Src)-1])
	switch in.Op {
	case ptx.BarWarpSync:
		o.compute = func(*syncState, uint32) {}
	case ptx.Shfl:
		o.a, o.b, o.c = l.src(in.Src[0]), l.src(in.Src[1]), l.src(in.Src[2])
		o.d = l.dst(in.Dst[0])
		if len(in.Dst) > 1 {
			o.dp, _ = l.pred(in.Dst[1])
		}
		mode := in.Shfl
		o.compute = func(st *syncState, lanes uint32) { shfl(st, lanes, mode) }
	case ptx.Vote:
		o.p, o.px = l.pred(in.Src[0])
		if in.Vote == ptx.VoteBallot {
			o.d = l.dst(in.Dst[0])
		} else {
			o.dp, _ = l.pred(in.Dst[0])
		}
		mode := in.Vote
		o.compute = func(st *syncState, lanes uint32) { vote(st, lanes, mode) }
	case ptx.Match:
		o.a, o.d = l.src(in.Src[0]), l.dst(in.Dst[0])
		if len(in.Dst) > 1 {
			o.dp, _ = l.pred(in.Dst[1])
		}
		all, m := in.Vote == ptx.MatchAll, widthMask(in.Type.Size())
		o.compute = func(st *syncState, lanes uint32) { match(st, lanes, all, m) }
	case ptx.Redux:
		if !isInt(in.Type) {
			return false
		}
		f := atomFn(in.Atom, in.Type)
		if f == nil {
			return false
		}
		o.a, o.d = l.src(in.Src[0]), l.dst(in.Dst[0])
		o.compute = func(st *syncState, lanes uint32) {
			acc := st.a[lane(lanes)] & 0xffffffff
			for k := lanes & (lanes - 1); k != 0; k &= k - 1 {
				acc = f(acc, st.a[lane(k)], 0)
			}
			for k := lanes; k != 0; k &= k - 1 {
				st.out[lane(k)] = acc
			}
		}
	case ptx.Elect:
		o.d = l.dst(in.Dst[0])
		if len(in.Dst) > 1 {
			o.dp, _ = l.pred(in.Dst[1])
		}
		o.compute = func(st *syncState, lanes uint32) {
			first := lanes & -lanes
			st.outp = st.outp&^lanes | first
			for k := lanes; k != 0; k &= k - 1 {
				st.out[lane(k)] = uint64(lane(first))
			}
		}
	default:
		return false
	}
	out.sync, out.exec = o, execSync
	return true
}

func execSync(w *warp, s *split, in *inst, mask uint32) bool {
	o, st := in.sync, &w.sync
	mv, a, b, c := w.src(o.members), w.src(o.a), w.src(o.b), w.src(o.c)
	// Everyone here and of one mind: the usual case.
	members := uint32(mv[lane(mask)])
	uniform := true
	for k := mask; k != 0; k &= k - 1 {
		i := lane(k)
		m := uint32(mv[i])
		uniform = uniform && m == members
		if m>>i&1 == 0 {
			w.faultf(in, i, illegalInst, "the lane is not in the member mask %#x that it gives", m)
		}
		st.members[i], st.op[i] = m, o
	}
	st.a, st.b, st.c = merged(&st.a, a, mask), merged(&st.b, b, mask), merged(&st.c, c, mask)
	if o.p >= 0 {
		st.votes = st.votes&^mask | (w.preds[o.p]^o.px)&mask
	}
	w.noteBarrier(in, mask, -1, false)
	if uniform && members&w.alive == mask {
		o.compute(st, mask)
		w.scatter(o, mask)
		w.noteBarrier(in, mask, -1, true)
		return true
	}
	st.arrived |= mask
	t := w.fork(s, mask)
	t.state, t.in = splitSync, in
	if t != s {
		s.pc++ // lanes that the guard kept away go on
	}
	w.recheckSync()
	return false
}

// merged returns old with the lanes m of v.
func merged(old, v *vec, m uint32) vec {
	if m == fullMask {
		return *v
	}
	r := *old
	for ; m != 0; m &= m - 1 {
		r[lane(m)] = v[lane(m)]
	}
	return r
}

// scatter writes the results of o for the lanes m.
func (w *warp) scatter(o *syncOp, m uint32) {
	if o.dp >= 0 {
		w.setPred(o.dp, m, w.sync.outp)
	}
	if o.d >= 0 {
		r := &w.regs[o.d]
		for ; m != 0; m &= m - 1 {
			r[lane(m)] = w.sync.out[lane(m)]
		}
	}
}

// recheckSync completes the meetings for which all lanes have come. It is
// called when a lane arrives or exits: exited lanes are not waited for.
func (w *warp) recheckSync() {
	st := &w.sync
	for again := true; again && st.arrived != 0; {
		again = false
		for k := st.arrived; k != 0; k &= k - 1 {
			i := lane(k)
			want := st.members[i] & w.alive
			if want&^st.arrived != 0 {
				continue
			}
			same := true
			for q := want; q != 0; q &= q - 1 {
				j := lane(q)
				same = same && st.members[j] == st.members[i] && st.op[j].key == st.op[i].key
			}
			if same {
				w.meet(want)
				again = true
				break
			}
		}
	}
}

// meet completes the operation of the lanes group, which all have arrived.
func (w *warp) meet(group uint32) {
	st := &w.sync
	st.arrived &^= group
	st.op[lane(group)].compute(st, group)
	w.progress = true
	// Splits may hold lanes of several groups, where member masks differ.
	for _, s := range append([]*split(nil), w.splits...) {
		m := s.mask & group
		if s.state != splitSync || m == 0 {
			continue
		}
		in := s.in
		t := w.fork(s, m)
		t.state, t.in = splitReady, nil
		t.pc++
		w.scatter(in.sync, m)
		w.noteBarrier(in, m, -1, true)
	}
}

func shfl(st *syncState, lanes uint32, mode ptx.ShflMode) {
	for k := lanes; k != 0; k &= k - 1 {
		i := lane(k)
		b, c := int(st.b[i]&31), st.c[i]
		seg, clamp := int(c>>8&31), int(c&31)
		maxLane := i&seg | clamp&^seg
		minLane := i & seg
		var j int
		var ok bool
		switch mode {
		case ptx.ShflUp:
			j = i - b
			ok = j >= maxLane
		case ptx.ShflDown:
			j = i + b
			ok = j <= maxLane
		case ptx.ShflBfly:
			j = i ^ b
			ok = j <= maxLane
		default:
			j = minLane | b&^seg
			ok = j <= maxLane
		}
		if !ok {
			j = i
		}
		// Reading a lane that takes no part is undefined; it yields zero here.
		v := uint64(0)
		if lanes>>j&1 != 0 {
			v = st.a[j] & 0xffffffff
		}
		st.out[i] = v
		st.outp &^= 1 << i
		if ok {
			st.outp |= 1 << i
		}
	}
}

func vote(st *syncState, lanes uint32, mode ptx.VoteMode) {
	v := st.votes & lanes
	var r bool
	switch mode {
	case ptx.VoteAll:
		r = v == lanes
	case ptx.VoteAny:
		r = v != 0
	case ptx.VoteUni:
		r = v == 0 || v == lanes
	}
	st.outp &^= lanes
	if r {
		st.outp |= lanes
	}
	for k := lanes; k != 0; k &= k - 1 {
		st.out[lane(k)] = uint64(v)
	}
}

func match(st *syncState, lanes uint32, all bool, m uint64) {
	for k := lanes; k != 0; k &= k - 1 {
		i := lane(k)
		var same uint32
		for q := lanes; q != 0; q &= q - 1 {
			if (st.a[lane(q)]^st.a[i])&m == 0 {
				same |= 1 << lane(q)
			}
		}
		st.outp &^= 1 << i
		if all {
			if same == lanes {
				st.outp |= 1 << i
			} else {
				same = 0
			}
		}
		st.out[i] = uint64(same)
	}
}
