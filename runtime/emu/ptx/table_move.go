package ptx

// moveTable is data movement and atomics.
const moveTable = `
mov b16,b32,b64,b128,s16,u16,s32,u32,s64,u64,f32,f64,pred | T = A

ld weak? space:global,shared,shared::cta,param,param::entry,local,const? $cop? $l1? $l2? $l2p? $l2c? $vec? $any | T_~* = M !ld
ld sem:relaxed,acquire $scope space:global,shared,shared::cta? $l1? $l2? $l2p? $l2c? $vec? $any | T_~* = M !ld
ld volatile space:global,shared,shared::cta? $l2p? $vec? $any | T_~* = M !ld
ld flag:mmio relaxed scope:sys global? $any | T_~* = M !ld
ld global nc hint:ca,cg,cs? $l1? $l2? $l2p? $l2c? $vec? $any | T_~* = M !ld

st weak? space:global,shared,shared::cta,local? $wcop? $l1? $l2? $l2c? $vec? $any | = M T~* !ld
st sem:relaxed,release $scope space:global,shared,shared::cta? $l1? $l2? $l2c? $vec? $any | = M T~* !ld
st volatile space:global,shared,shared::cta? $vec? $any | = M T~* !ld
st flag:mmio relaxed scope:sys global? $any | = M T~* !ld

atom sem:relaxed,acquire,release,acq_rel? $scope? space:global,shared,shared::cta? atom:and,or,xor $l2c? b32,b64 | T_ = M T !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? space:global,shared,shared::cta? atom:exch $l2c? b32,b64,b128 | T_ = M T !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? space:global,shared,shared::cta? atom:cas b16,b32,b64,b128 | T_ = M T T !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? space:global,shared,shared::cta? atom:add $l2c? u32,s32,u64,f32,f64 | T_ = M T !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? space:global,shared,shared::cta? atom:add lit:noftz $l2c? f16,f16x2,bf16,bf16x2 | T_ = M T !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? space:global,shared,shared::cta? atom:min,max $l2c? u32,s32,u64,s64 | T_ = M T !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? space:global,shared,shared::cta? atom:inc,dec $l2c? u32 | T_ = M T !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? global? atom:add $l2c? v2,v4 f32 | T_* = M T* !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? global? atom:add,min,max lit:noftz $l2c? $vec f16,bf16 | T_* = M T* !atom
atom sem:relaxed,acquire,release,acq_rel? $scope? global? atom:add,min,max lit:noftz $l2c? v2,v4 f16x2,bf16x2 | T_* = M T* !atom

red sem:relaxed,release? $scope? space:global,shared,shared::cta? atom:and,or,xor $l2c? b32,b64 | = M T !atom
red sem:relaxed,release? $scope? space:global,shared,shared::cta? atom:add $l2c? u32,s32,u64,f32,f64 | = M T !atom
red sem:relaxed,release? $scope? space:global,shared,shared::cta? atom:add lit:noftz $l2c? f16,f16x2,bf16,bf16x2 | = M T !atom
red sem:relaxed,release? $scope? space:global,shared,shared::cta? atom:min,max $l2c? u32,s32,u64,s64 | = M T !atom
red sem:relaxed,release? $scope? space:global,shared,shared::cta? atom:inc,dec $l2c? u32 | = M T !atom
red sem:relaxed,release? $scope? global? atom:add $l2c? v2,v4 f32 | = M T* !atom
red sem:relaxed,release? $scope? global? atom:add,min,max lit:noftz $l2c? $vec f16,bf16 | = M T* !atom
red sem:relaxed,release? $scope? global? atom:add,min,max lit:noftz $l2c? v2,v4 f16x2,bf16x2 | = M T* !atom

cvta space:global,shared,shared::cta,param,param::entry,local,const u64 | T = A
cvta to space:global,shared,shared::cta,param,param::entry,local,const u64 | T = T
isspacep space:global,shared,shared::cta,param,param::entry,local,const | P = u64
prefetch space:global,local? hint:L1,L2 | = M
prefetch global? hint:L2::evict_last,L2::evict_normal | = M
prefetchu hint:L1 | = M >prefetch

cp.async lit:ca,cg $shared lit:global $l2c? $l2p? | = M:shared M:global I u32? !cpasync
cp.async.commit_group | =
cp.async.wait_group | = I
cp.async.wait_all | =
cp.async.mbarrier.arrive noinc? space:shared,shared::cta? lit:b64 | = M
cp.async.bulk lit:shared::cluster,shared::cta lit:global lit:mbarrier::complete_tx::bytes $l2c? | = M:shared M:global u32 M:shared
cp.async.bulk lit:global lit:shared::cta lit:bulk_group $l2c? | = M:global M:shared u32
cp.async.bulk.commit_group | =
cp.async.bulk.wait_group lit:read? | = I
`

// multimemTable is what ptxas 13.0 accepts, by test: of the integers no s64
// add, of the floats no f32 or f64 min and max, vectors of the floats but f64
// only. That min and max of multimem.red take vectors but no scalars of
// halves is ptxas's rule too.
const multimemTable = `
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:add u32,s32,u64,f32,f64 | T = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:min,max u32,s32,u64,s64 | T = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:and,or,xor b32,b64 | T = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:add v2,v4 f32 | T* = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:add acc::f32? $vec f16,bf16 | T* = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:add acc::f32? v2,v4? f16x2,bf16x2 | T* = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:min,max $vec f16,bf16 | T* = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:min,max v2,v4? f16x2,bf16x2 | T* = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:add acc::f16? $vec e4m3x2,e5m2x2 | T* = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:add acc::f16? v2,v4? e4m3x4,e5m2x4 | T* = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:min,max $vec e4m3x2,e5m2x2 | T* = M !multimem
multimem.ld_reduce sem:weak,relaxed,acquire? $scope? global? atom:min,max v2,v4? e4m3x4,e5m2x4 | T* = M !multimem

multimem.st sem:weak,relaxed,release? $scope? global? b32,b64,u32,s32,u64,s64,f64 | = M T !multimem
multimem.st sem:weak,relaxed,release? $scope? global? v2,v4? f32,f16x2,bf16x2,e4m3x4,e5m2x4 | = M T* !multimem
multimem.st sem:weak,relaxed,release? $scope? global? $vec f16,bf16,e4m3x2,e5m2x2 | = M T* !multimem

multimem.red sem:relaxed,release? $scope? global? atom:add u32,s32,u64,f64 | = M T !multimem
multimem.red sem:relaxed,release? $scope? global? atom:min,max u32,s32,u64,s64 | = M T !multimem
multimem.red sem:relaxed,release? $scope? global? atom:and,or,xor b32,b64 | = M T !multimem
multimem.red sem:relaxed,release? $scope? global? atom:add v2,v4? f32,f16x2,bf16x2 | = M T* !multimem
multimem.red sem:relaxed,release? $scope? global? atom:add,min,max $vec f16,bf16 | = M T* !multimem
multimem.red sem:relaxed,release? $scope? global? atom:min,max v2,v4 f16x2,bf16x2 | = M T* !multimem
`
