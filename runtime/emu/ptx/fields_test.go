package ptx

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestFields checks what modifiers become.
func TestFields(t *testing.T) {
	for stmt, want := range map[string]Instr{
		"ld.acquire.sys.global.u32 %r1, [%rd1];":                                         {Op: Ld, Type: U32, Space: Global, Sem: Acquire, Scope: Sys},
		"ld.volatile.shared.s32 %r1, [%r2];":                                             {Op: Ld, Type: S32, Space: Shared, Sem: Relaxed, Scope: Sys, Volatile: true},
		"ld.u8 %rs1, [%rd1];":                                                            {Op: Ld, Type: U8},
		"ld.mmio.relaxed.sys.global.u32 %r1, [%rd1];":                                    {Op: Ld, Type: U32, Space: Global, Sem: Relaxed, Scope: Sys, Hints: []string{"mmio"}},
		"ld.global.nc.L1::no_allocate.L2::128B.f32 %f1, [%rd1];":                         {Op: Ld, Type: F32, Space: Global, NC: true, Hints: []string{"L1::no_allocate", "L2::128B"}},
		"ld.global.L2::cache_hint.u32 %r1, [%rd1], %rd2;":                                {Op: Ld, Type: U32, Space: Global, Hints: []string{"L2::cache_hint"}},
		"st.global.cs.v2.b32 [%rd1], {%r1,%f1};":                                         {Op: St, Type: B32, Vec: 2, Space: Global, Hints: []string{"cs"}},
		"st.release.sys.global.u32 [%rd1], 1;":                                           {Op: St, Type: U32, Space: Global, Sem: Release, Scope: Sys},
		"atom.add.release.gpu.u32 %r1,[%rd1],%r2;":                                       {Op: Atom, Type: U32, Sem: Release, Scope: GPU, Atom: AtomAdd},
		"atom.global.sys.exch.b32 %r1, [%rd1], 1;":                                       {Op: Atom, Type: B32, Space: Global, Sem: Relaxed, Scope: Sys, Atom: AtomExch},
		"atom.shared.cas.b64 %rd1, [%r1], %rd2, 1;":                                      {Op: Atom, Type: B64, Space: Shared, Sem: Relaxed, Scope: GPU, Atom: AtomCAS},
		"red.global.add.noftz.bf16x2 [%rd1], %r2;":                                       {Op: Red, Type: BF16x2, Space: Global, Sem: Relaxed, Scope: GPU, Atom: AtomAdd},
		"multimem.red.add.u32 [%rd1], 1;":                                                {Op: MultimemRed, Type: U32, Space: Global, Sem: Relaxed, Scope: Sys, Atom: AtomAdd},
		"multimem.st.v4.f32 [%rd1], {%r1,%r2,%f1,%f2};":                                  {Op: MultimemSt, Type: F32, Vec: 4, Space: Global},
		"multimem.ld_reduce.relaxed.gpu.global.add.acc::f32.v2.f16x2 {%r1,%r2}, [%rd1];": {Op: MultimemLdReduce, Type: F16x2, Vec: 2, Space: Global, Sem: Relaxed, Scope: GPU, Atom: AtomAdd, AccF32: true},
		"membar.gl;":                                                             {Op: FenceOp, Fence: FenceThread, Sem: SC, Scope: GPU},
		"membar.sys;":                                                            {Op: FenceOp, Fence: FenceThread, Sem: SC, Scope: Sys},
		"fence.sys;":                                                             {Op: FenceOp, Fence: FenceThread, Sem: AcqRel, Scope: Sys},
		"fence.acquire.cta;":                                                     {Op: FenceOp, Fence: FenceThread, Sem: Acquire, Scope: CTA},
		"fence.proxy.alias;":                                                     {Op: FenceOp, Fence: FenceProxyAlias},
		"fence.proxy.async;":                                                     {Op: FenceOp, Fence: FenceProxyAsync},
		"fence.proxy.async.shared::cta;":                                         {Op: FenceOp, Fence: FenceProxyAsync, Space: Shared},
		"fence.mbarrier_init.release.cluster;":                                   {Op: FenceOp, Fence: FenceMbarrierInit, Sem: Release, Scope: Cluster},
		"bar.sync 0;":                                                            {Op: BarSync, Aligned: true},
		"barrier.sync 1, 64;":                                                    {Op: BarSync},
		"barrier.cta.sync.aligned 1;":                                            {Op: BarSync, Aligned: true},
		"bar.red.or.pred %p1, 0, %p2;":                                           {Op: BarRed, Type: Pred, Bool: BoolOr, Aligned: true},
		"bar.red.popc.u32 %r1, 0, 64, !%p2;":                                     {Op: BarRed, Type: U32, Bool: BoolPopc, Aligned: true},
		"setp.lt.and.ftz.f32 %p1, %f1, %f2, !%p2;":                               {Op: Setp, Type: F32, Cmp: LT, Bool: BoolAnd, Ftz: true},
		"setp.hi.u32 %p1, %r1, 3;":                                               {Op: Setp, Type: U32, Cmp: HI},
		"mul.hi.u32 %r1, %r1, 3;":                                                {Op: Mul, Type: U32, Mul: Hi},
		"mul.wide.s32 %rd1, %r1, -3;":                                            {Op: Mul, Type: S32, Mul: Wide},
		"mad.wide.u16 %r1, %rs1, 3, %r2;":                                        {Op: Mad, Type: U16, Mul: Wide},
		"mad.lo.cc.u32 %r1, %r1, 3, %r2;":                                        {Op: Mad, Type: U32, Mul: Lo, CC: true},
		"madc.hi.u32 %r1, %r1, 3, %r2;":                                          {Op: Madc, Type: U32, Mul: Hi},
		"mad.rn.f32 %f1, %f1, %f2, %f3;":                                         {Op: Fma, Type: F32, Round: RN},
		"addc.cc.u64 %rd1, %rd1, 3;":                                             {Op: Addc, Type: U64, CC: true},
		"div.full.ftz.f32 %f1, %f1, %f2;":                                        {Op: Div, Type: F32, Full: true, Ftz: true},
		"ex2.approx.ftz.f32 %f1, %f2;":                                           {Op: Ex2, Type: F32, Approx: true, Ftz: true},
		"max.NaN.xorsign.abs.f32 %f1, %f1, %f2;":                                 {Op: Max, Type: F32, NaN: true, XorSign: true, Abs: true},
		"cvt.rn.bf16x2.f32 %r1, %f1, %f2;":                                       {Op: Cvt, Type: BF16x2, SrcType: F32, Round: RN},
		"cvt.rzi.s32.f32 %r1, %f1;":                                              {Op: Cvt, Type: S32, SrcType: F32, Round: RZI},
		"cvt.rn.relu.f16x2.e5m2x2 %r1, %rs1;":                                    {Op: Cvt, Type: F16x2, SrcType: E5M2x2, Round: RN, Relu: true},
		"cvt.rn.satfinite.e4m3x2.f32 %rs1, %f1, %f2;":                            {Op: Cvt, Type: E4M3x2, SrcType: F32, Round: RN, Sat: true},
		"shf.l.wrap.b32 %r1, %r2, %r3, 5;":                                       {Op: Shf, Type: B32, Left: true, Wrap: true},
		"shf.r.clamp.b32 %r1, %r2, %r3, 5;":                                      {Op: Shf, Type: B32},
		"bfind.shiftamt.u32 %r1, %r2;":                                           {Op: Bfind, Type: U32, ShiftAmt: true},
		"prmt.b32.rc16 %r1, %r2, %r3, 1;":                                        {Op: Prmt, Type: B32, Prmt: PrmtRC16},
		"lop3.and.b32 %r1|%p1, %r1, %r2, %r3, 0x80, %p2;":                        {Op: Lop3, Type: B32, Bool: BoolAnd},
		"shfl.sync.idx.b32 %r1, %r2, 3, 31, -1;":                                 {Op: Shfl, Type: B32, Shfl: ShflIdx},
		"vote.sync.ballot.b32 %r1, %p1, -1;":                                     {Op: Vote, Type: B32, Vote: VoteBallot},
		"vote.sync.all.pred %p1, %p1, -1;":                                       {Op: Vote, Type: Pred, Vote: VoteAll},
		"match.all.sync.b64 %r1|%p1, %rd1, -1;":                                  {Op: Match, Type: B64, Vote: MatchAll},
		"redux.sync.max.s32 %r1, %r1, -1;":                                       {Op: Redux, Type: S32, Atom: AtomMax},
		"cvta.to.global.u64 %rd1, %rd2;":                                         {Op: Cvta, Type: U64, Space: Global, ToSpace: true},
		"isspacep.shared %p1, %rd2;":                                             {Op: Isspacep, Space: Shared},
		"prefetch.global.L2 [%rd1];":                                             {Op: Prefetch, Space: Global, Hints: []string{"L2"}},
		"mov.u64 %rd1, %globaltimer;":                                            {Op: Mov, Type: U64},
		"griddepcontrol.wait;":                                                   {Op: GridDepControl, Mods: "wait"},
		"cp.async.cg.shared.global [%r1], [%rd1], 16;":                           {Op: CpAsync, Mods: "async.cg.shared.global"},
		"cp.async.wait_group 2;":                                                 {Op: CpAsyncCtl, Mods: "async.wait_group"},
		"cp.async.bulk.wait_group.read 0;":                                       {Op: CpAsyncCtl, Mods: "async.bulk.wait_group.read"},
		"cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], 64;":         {Op: CpAsyncBulk, Mods: "async.bulk.global.shared::cta.bulk_group"},
		"cp.async.mbarrier.arrive.noinc.shared.b64 [%r1];":                       {Op: CpAsyncCtl, Mods: "async.mbarrier.arrive.noinc.shared.b64", Space: Shared, NoInc: true},
		"mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 %rd1, [%r1], 16;": {Op: MbarArrive, Mods: "arrive.expect_tx.release.cta.shared::cta.b64", Space: Shared, Sem: Release, Scope: CTA},
		"mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r1], 0, 5;":             {Op: MbarTryWait, Mods: "try_wait.parity.shared::cta.b64", Space: Shared, Sem: Acquire, Scope: CTA},
		"mbarrier.init.shared::cta.b64 [%r1], 1;":                                {Op: MbarInit, Mods: "init.shared::cta.b64", Space: Shared},
		"brkpt;": {Op: Brkpt},
		"trap;":  {Op: Trap},
	} {
		want.Guard.Reg = -1
		if want.Vec == 0 {
			want.Vec = 1
		}
		got := one(t, stmt)
		if d := cmp.Diff(want, got, cmpopts.IgnoreFields(Instr{}, "Dst", "Src", "Line", "Text")); d != "" {
			t.Errorf("%s (-want +got):\n%s", stmt, d)
		}
	}
}

// TestStoreOperands checks that addresses come first.
func TestStoreOperands(t *testing.T) {
	for _, stmt := range []string{
		"st.global.u32 [%rd1], %r1;", "red.global.add.u32 [%rd1], %r1;", "atom.global.add.u32 %r2, [%rd1], %r1;",
		"multimem.red.add.u32 [%rd1], %r1;", "mbarrier.init.b64 [%rd1], %r1;",
	} {
		in := one(t, stmt)
		if len(in.Src) != 2 || in.Src[0].Kind != MemOperand || in.Src[1].Kind != RegOperand {
			t.Errorf("%s: %+v", stmt, in.Src)
		}
	}
}

func TestStrings(t *testing.T) {
	for want, v := range map[string]any{
		"ld": Ld, "cp.async.bulk": CpAsyncBulk, "Op(0)": Op(0), "f16x2": F16x2, "Type(99)": Type(99),
		"global": Global, "acq_rel": AcqRel, "sys": Sys, "equ": EQU, "xor": BoolXor, "cas": AtomCAS, "rzi": RZI,
		"%lanemask_le": LanemaskLe,
	} {
		if got := v.(interface{ String() string }).String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for op := Abs; op <= Xor; op++ {
		if opNames[op] == "" {
			t.Errorf("Op %d has no name", op)
		}
	}
	used := map[Op]bool{}
	for _, list := range forms() {
		for _, f := range list {
			used[f.op] = true
		}
	}
	for op := Abs; op <= Xor; op++ {
		if !used[op] {
			t.Errorf("%s has no form", op)
		}
	}
}
