package ptx

// syncTable is control flow, barriers, warp operations and fences.
const syncTable = `
bra uni?                        | = L
brx.idx uni?                    | = u32 L
exit                            | =
ret uni?                        | = >exit
trap                            | =
brkpt                           | =
nanosleep u32                   | = T
griddepcontrol lit:wait,launch_dependents | =

bar.sync                        | = u32 u32? !bar
bar.cta.sync                    | = u32 u32? !bar
bar.arrive                      | = u32 u32 !bar
bar.cta.arrive                  | = u32 u32 !bar
bar.red bool:and,or pred        | T = u32 P !bar
bar.red bool:and,or pred        | T = u32 u32 P !bar
bar.red bool:popc u32           | T = u32 P !bar
bar.red bool:popc u32           | T = u32 u32 P !bar
bar.cta.red bool:and,or pred    | T = u32 P !bar
bar.cta.red bool:and,or pred    | T = u32 u32 P !bar
bar.cta.red bool:popc u32       | T = u32 P !bar
bar.cta.red bool:popc u32       | T = u32 u32 P !bar
bar.warp.sync                   | = b32
barrier.sync aligned?           | = u32 u32?
barrier.cta.sync aligned?       | = u32 u32?
barrier.arrive aligned?         | = u32 u32
barrier.cta.arrive aligned?     | = u32 u32
barrier.red aligned? bool:and,or pred | T = u32 P
barrier.red aligned? bool:and,or pred | T = u32 u32 P
barrier.red aligned? bool:popc u32 | T = u32 P
barrier.red aligned? bool:popc u32 | T = u32 u32 P
barrier.cta.red aligned? bool:and,or pred | T = u32 P
barrier.cta.red aligned? bool:and,or pred | T = u32 u32 P
barrier.cta.red aligned? bool:popc u32 | T = u32 P
barrier.cta.red aligned? bool:popc u32 | T = u32 u32 P

activemask b32                  | T =
elect lit:sync                  | u32_|P = b32
shfl lit:sync shfl:up,down,bfly,idx b32 | T_|P? = T u32 u32 b32
vote lit:sync vote:all,any,uni pred | T = P b32
vote lit:sync vote:ballot b32   | T = P b32
match lit:sync vote:any b32,b64 | b32 = T b32
match lit:sync vote:all b32,b64 | b32_|P? = T b32
redux lit:sync atom:add,min,max u32,s32 | T = T b32
redux lit:sync atom:and,or,xor b32 | T = T b32
redux lit:sync atom:min,max flag:abs? NaN? f32 | T = T b32

membar scope:cta,gl,sys         | = !membar
fence sem:sc,acq_rel,acquire,release? $scope | = !fence
fence.proxy lit:alias           | = !fencealias
fence.proxy lit:async space:global,shared::cta? | = !fenceasync
fence.mbarrier_init release scope:cluster | = !fenceinit

mbarrier.init space:shared,shared::cta? lit:b64 | = M u32
mbarrier.inval space:shared,shared::cta? lit:b64 | = M
mbarrier.arrive sem:release,relaxed? scope:cta,cluster? space:shared,shared::cta? lit:b64 | b64_ = M u32? !mbarrier
mbarrier.arrive.noComplete release? scope:cta? space:shared,shared::cta? lit:b64 | b64_ = M u32 !mbarrier
mbarrier.arrive.expect_tx sem:release,relaxed? scope:cta,cluster? space:shared,shared::cta? lit:b64 | b64_ = M u32 !mbarrier
mbarrier.expect_tx relaxed? scope:cta,cluster? space:shared,shared::cta? lit:b64 | = M u32 !mbarrier
mbarrier.test_wait sem:acquire,relaxed? scope:cta,cluster? space:shared,shared::cta? lit:b64 | P = M b64 !mbarrier
mbarrier.test_wait.parity sem:acquire,relaxed? scope:cta,cluster? space:shared,shared::cta? lit:b64 | P = M u32 !mbarrier
mbarrier.try_wait sem:acquire,relaxed? scope:cta,cluster? space:shared,shared::cta? lit:b64 | P = M b64 u32? !mbarrier
mbarrier.try_wait.parity sem:acquire,relaxed? scope:cta,cluster? space:shared,shared::cta? lit:b64 | P = M u32 u32? !mbarrier
`

// cvtTable is the conversions. A conversion that may lose bits must say how
// it rounds; ptxas lets some that cannot say it too.
const cvtTable = `
cvt sat? $int8 $int8            | T~ = S~ !cvtsat
cvt $rnd ftz? sat? f32 $int8    | T~ = S~
cvt $rnd sat? f16,f64 $int8     | T~ = S~
cvt $rnd bf16 $int              | T~ = S~
cvt $rndi ftz? sat? $int8 f32   | T~ = S~
cvt $rndi sat? $int8 f16,f64    | T~ = S~
cvt $rndi $int bf16             | T~ = S~
cvt $rndi? ftz? sat? f32 f32    | T~ = S~
cvt $rndi? sat? f64 f64         | T~ = S~
cvt $rndi? sat? f16 f16         | T~ = S~
cvt $rndi? bf16 bf16            | T~ = S~
cvt ftz? sat? f32 f16           | T~ = S~
cvt sat? f64 f16                | T~ = S~
cvt ftz? sat? f64 f32           | T~ = S~
cvt $rnd? ftz? f32 bf16         | T~ = S~
cvt $rnd? f64,f16 bf16          | T~ = S~
cvt $rnd? bf16 f16              | T~ = S~
cvt $rnd ftz? sat? f32 f64      | T~ = S~
cvt $rnd ftz? sat? f16 f32      | T~ = S~
cvt $rnd sat? f16 f64           | T~ = S~
cvt $rnd ftz? bf16 f32          | T~ = S~
cvt $rnd bf16 f64               | T~ = S~
cvt rn,rz relu? satfinite? f16,bf16 f32 | T~ = S~
cvt rn,rz relu? satfinite? f16x2,bf16x2 f32 | T = S S
cvt rn satfinite relu? e4m3x2,e5m2x2 f32 | T = S S
cvt rn satfinite relu? e4m3x2,e5m2x2 f16x2 | T = S
cvt rn relu? f16x2 e4m3x2,e5m2x2 | T = S
`
