// Package litmus holds the emulator's Explore mode to the PTX memory model with
// litmus tests of our own: programs of two to four threads with a few accesses
// each.
//
// A small axiomatic checker (model_test.go) enumerates what PTX allows each of
// them, and every verdict on the outcome that gives a test its name is also
// written down by hand. The emulator runs the program many times; an outcome
// that PTX forbids must never appear, and an outcome that it allows must appear
// where the technique can show it.
//
// Explore keeps each location's stores in the order in which they were executed
// and lets loads return old ones. It can therefore not show an outcome that
// needs a load to return a store of the future (LB), or stores of one location
// to take effect in another order than that of their execution (2+2W, S, CoRW).
// It is sound all the same: what it shows is allowed.
package litmus
