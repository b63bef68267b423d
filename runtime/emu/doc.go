// Package emu is a driver in pure Go: N virtual GPUs with peer access and
// NVLink multicast that execute the PTX which nvcc emitted.
//
// It implements package driver whole, under the CUDA driver's own rules
// (granularities, access rights, sticky errors, capture rules, the order of
// the multicast calls), so that code which runs here meets the same refusals
// as on hardware.
//
// # Execution
//
// A kernel's instructions are lowered once, when the module is loaded; an
// instruction that the emulator does not execute fails the load, never the run.
// A warp is a set of independently schedulable splits {pc, mask}: a divergent
// branch makes two, and splits that meet at one pc become one again. Splits of
// a warp, warps of a block and blocks of all devices are scheduled fairly, so
// that a spinning lane cannot starve the lane that it waits for.
//
// In Fast mode the unit of work is a resident block; Config.Workers goroutines
// run blocks for bounded quanta. Blocks become resident in order, as many as
// fit the device's multiprocessors, and stay until they end: an over-subscribed
// grid barrier hangs here as it does on a GPU.
//
// # Memory ordering
//
// Strong accesses (.relaxed, .acquire, .release, .volatile, atomics) of 4 and 8
// bytes are Go atomics, which are sequentially consistent and therefore at
// least as strong as every PTX semantics and scope. Weak accesses are plain
// loads and stores of at most 8 bytes. Vectors are performed as separate 8-byte
// halves, as the PTX memory model allows. Fast mode so shows one legal, strong
// behaviour; finding weak ones is what Observer and the Check mode are for.
//
// # Time
//
// %globaltimer is virtual. It stands still while anything makes progress and
// accumulates real time only while every resident block merely spins (or is
// blocked) and no copy is under way. A kernel's deadline of 2 s therefore needs
// 2 s of real, global stall, and a slow emulation never causes a false timeout.
// Event timestamps are this clock plus a microsecond for each operation that
// the device has completed.
//
// # Extending
//
// There is one interpreter. What runs next is the business of a scheduler, an
// internal interface: implementations embed graphState (dependencies, streams,
// residency, faults, reports of stalls), and either run whole blocks
// (block.run), or one split of one warp for one instruction (warp.run with a
// budget of 1), choosing among warp.splits. What was done passes through
// noteAccess, noteBulk, noteFence and noteBarrier, which tell an Observer.
//
// # Judging
//
// In the modes Check and Explore one warp runs at a time, in an order that
// Config.Seed decides, and package race is told of all that it does: see Judge,
// Driver.Reports and docs/emulator.md.
package emu
