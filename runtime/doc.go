// Package runtime is what generated dispatchers run on: groups of GPUs,
// symmetric memory, the choice of a transport, and the three operations of a
// step. Generated code imports it as moert.
//
//	drv, _ := moert.Open(moert.Backend{})             // a GPU driver, or the emulator
//	group, _ := moert.NewLocalGroup(drv.Devices()...) // rank i on GPU i
//	err := group.Each(ctx, func(ctx context.Context, rank int) error {
//		d, err := qwen3moe.NewDispatcher(ctx, group, rank)
//		...
//	})
//
// # Steps
//
// A step is BeginStep, then Dispatch and Combine in turn, once a layer. Each
// only enqueues kernels; all may be captured into a graph and replayed with
// other token counts. Ranks launch the same operations in the same order.
//
// With a process for each GPU, Join takes the place of the first two lines: it
// returns a group with this process's rank.
//
// # Failure
//
// No wait is without bound. A kernel that waits longer than the timeout for a
// peer writes down whom it missed, tells all ranks, and from then on all
// kernels of the group return at once; Dispatcher.Err and Synchronize report
// it as a *FailedError. Mistakes that the host can see are errors before
// anything is launched, and leave the group usable. In a group of processes the
// end of one is a *RankError on all others, at once.
//
// # Packages
//
// Package driver is the seam; cuda and emu implement it. Package symm makes
// symmetric memory, nvcc compiles, nccl is the library of collectives, rendezvous
// brings processes together.
package runtime
