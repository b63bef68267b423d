// Package race is a happens-before race detector for the PTX memory model
// with scopes, address aliases (multicast and unicast mappings of the same
// memory), proxies and lane precision.
//
// It is a pure library: one goroutine calls it, in the order in which the
// emulator interleaves the operations. It looks at one execution at a time and
// says of that execution whether it contains a data race.
//
// # Use
//
// Register each instruction once (Detector.Op), each launch with the clocks it
// waits for (GridStart, GridEnd, Host.Clock, Host.Join, Clock.Join), each
// allocation (NewAlloc, Alloc.Free). Call Access per lane, or AccessRow and
// AccessWarp per warp, when the access is performed on memory; a multicast
// access once per replica. Call Fence, FenceAlias, WarpBarrier, BlockBarrier,
// Exit and so on when they complete; a bulk copy runs as an agent between Fork
// and JoinAgent. Accesses of host copies and memset use a Host's warp, lane 0
// and PathAny.
//
// # The model
//
// Threads are lanes. A thread belongs to a warp, a block (cta), a cluster, a
// device. Operations are reads, writes and read-modify-writes of naturally
// aligned elements, weak or strong; strong ones and fences have a scope.
//
// Two operations are morally strong if both are strong, each one's scope
// includes the thread of the other, their elements overlap completely and they
// use the same alias class (see below) and the same proxy. (PTX also counts
// two weak operations of one thread; that matters only for a weak store taken
// up by an RMW of its own thread, see the limits.)
//
// Observation: a write is observed by a read that returns its value and is
// morally strong with it, directly or through a chain of read-modify-writes
// each of which observes its predecessor.
//
// A release pattern on M is (1) a release operation on M, (2) a release
// operation on M followed in program order by a strong write of M, or (3) a
// release fence followed in program order by a strong write of M. An acquire
// pattern on M is (1) an acquire operation on M, (2) a strong read of M
// followed by an acquire operation on M, or (3) a strong read of M followed by
// an acquire fence. A release pattern synchronises with an acquire pattern if
// the write of the one is observed by the read of the other and the FIRST
// operation of the release pattern and the LAST of the acquire pattern include
// each other in their scopes.
//
// Base causality is the transitive closure of program order, synchronisation,
// barriers among their participants, kernel launch and end, and host joins.
// The release operation and the acquire operation themselves belong to it; the
// relaxed store behind a release fence does not. Causality adds: a write that
// is observed by R precedes whatever R precedes in base causality.
//
// Two conflicting operations (overlapping, one of them a write) of which
// neither precedes the other in causality and which are not morally strong
// are a data race.
//
// # Lanes
//
// The lanes of a warp are ordered only by what synchronises them: WarpBarrier
// (bar.warp.sync, shfl.sync, vote.sync, ...), BlockBarrier, Barrier. Lockstep
// orders nothing. A lane that has exited takes part in no later barrier, so its
// accesses since its last barrier stay uncovered until the grid ends.
//
// # Aliases and proxies
//
// Op.Path names the alias class of the address used. Under Strict and
// Practical, conflicting accesses through different classes need, besides
// causality, a fence.proxy.alias on the causality path between them, in the
// same thread too. Every clock therefore carries a second one, A: the part of
// it that is followed by such a fence. Under Strict a flag that is written
// through one class and read through another is never observed; under
// Practical it is. Off ignores classes.
//
// A kernel boundary is no alias fence under Strict, because no text says it is
// one, and is one under Practical. PathAny (host copies and memset) is alias
// neutral: it conflicts with no class, and a write through it starts the
// location afresh.
//
// The async proxy (Op.Async) is treated in the same way with
// fence.proxy.async, if Config.Async is set.
//
// # fence.sc
//
// The PTX text lets fence.sc operations synchronise in the Fence-SC order, a
// total order that an execution may choose. With SCExact the order of the
// interleaving is taken: exact for this execution, but two unrelated fences
// then order everything around them by accident, which hides most missing
// flags. The default, SCNoOrder, takes fence.sc for fence.acq_rel here: it may
// in principle report a pair that only the Fence-SC order orders (a proof by
// "I did not see your flag"). Weak visibility (Candidates) always honours the
// Fence-SC order.
//
// # Known limits
//
//   - Patterns (2) are remembered for the last 8 locations per lane and, under
//     Strict, need both accesses to use one alias class.
//   - Causality by mere observation is remembered for the last 16 strong
//     stores of a location.
//   - A byte keeps at most 512 writes and 8192 groups of reads that are not
//     superseded; those beyond are forgotten (Stats.Forgotten).
//   - A weak store is never observed, not even through an RMW of its own thread.
//   - Where a strong store S precedes an access in causality by observation
//     only, the strong accesses of its block to the same element that precede S
//     in base causality, with the scope of S or a wider one, are taken to
//     precede it too. By the letter they race; no outcome depends on it.
//   - After a race is reported the later access replaces the earlier one.
//   - Views of Candidates do not tell alias classes apart.
package race
