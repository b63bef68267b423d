// Package mutation tests the tester: it breaks the generated kernels in a few
// hundred ways and wants every break to be noticed.
//
// A mutant is the PTX of a small program (testdata, see TestTestdata) with one
// change: a barrier deleted, a release made relaxed, a flag written to the
// wrong peer. It runs on the emulator in its Check and Explore modes, with real
// readers (the demonstration experts), uneven counts and changing data, and is
// killed by a report of a race, by wrong data, by a wait that never ends, by a
// fault, or by a module that does not load. What survives is in an explicit
// list, with the reason why no test can tell it from the original; an entry of
// that list that no longer survives is an error, too.
//
// The emulator executes what it is given, so a mutant that survives is a blind
// spot of the emulator, of the scenarios here, or of nobody.
package mutation
