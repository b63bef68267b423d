// Package bench measures a model's exchange: what `moegen bench` shows and what
// `moegen tune` chooses by.
//
// Everything is measured in one process and one run: first what the machine can
// do at best (the floor), then, for each token count, moegen's kernels and the
// same exchange done by NCCL. Before and after a token count is measured, whole
// layers are run on the very dispatchers that are measured, and verified element
// by element (package layer).
//
// # What a time is
//
// Operations are captured into a graph, several of one kind one after the other,
// and the graph is replayed back to back without the host in between. A replay's
// time, by events around it, is divided by its operations; the slowest rank's
// counts. A [Time] is the median and the 99th percentile of that over replays.
// The first replays do not count: they bring the clocks up, and absorb that
// ranks start apart.
//
// Repeating one operation is legal on its own: dispatches after each other, with
// nobody reading, store the same rows again; combines after each other, with no
// experts between, read the same sums; epochs only grow.
//
// On the emulator everything runs, with fewer operations, and times mean
// nothing: its clock counts operations.
package bench
