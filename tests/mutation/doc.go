// Package mutation tests the tester: it breaks the generated kernels in
// thousands of ways and wants every break to be noticed.
//
// A mutant is the PTX of a small program (testdata, see TestTestdata) with one
// change: a barrier deleted, a release made relaxed, a flag written to the
// wrong peer. It runs on the emulator in its Check and Explore modes, with real
// readers (the demonstration experts), uneven counts and changing data, and
// through every failure that the kernels know. It is killed by a report of a
// race, by wrong data, by a wait that never ends, by a fault, or by a module
// that does not load. Data are the gathered tensors and the outputs, the step,
// every rank's failure word, the host's copy of it, what was sent after a
// failure, and how long the wait took. Where a release, a fence or a scope was
// weakened, the judge also has to say so, at a line that has to do with it.
//
// A mutant may survive only if it is equivalent: its class is in the list
// equivalences, with the argument.
//
// The emulator executes what it is given, so a mutant that survives is a blind
// spot of the emulator, of the scenarios here, or of nobody.
//
// Both protocols run, each by itself and by turns, with counts that travel early
// and in band; failures, too. Epochs start where they are about to wrap.
//
// # What is run
//
// go test draws 120 mutants, always the same. -full runs all, takes two cores about
// half an hour, and holds the classes of equivalent mutants to be whole.
// docs/measurements.md says what has run.
//
// # A new kernel
//
// Nothing here names kernels or lines. What a line is for (its role: a flag, a
// count, gathered rows, a failure word) is observed while the scenarios run, by
// the area of memory that it accesses, and a kernel that a scenario runs is
// mutated. So, for a new kernel or variant:
//
//  1. Make some step run it: a shape, or a step of a shape (program_test.go) for
//     which the plan chooses it. Every line of it should be executed; a line
//     that is not has no role and no mutants. A kernel in the PTX that nothing
//     runs is an error.
//  2. If it has memory of its own, name the area in areas (roles_test.go).
//  3. If it waits for peers, it is a phase: absent, alone and together
//     (failing_test.go) want to know how to enqueue it (rig.phase).
//  4. go test ./tests/mutation -run TestTestdata -update, then -run TestClean,
//     then -run TestMutants -v. What survives shows what no scenario checks:
//     add the check, or, if there is nothing to check, the argument.
//
// An operator is a function in ops_*_test.go, listed in operators. It finds its
// instructions by opcode, operands and role.
//
//	go test ./tests/mutation -run TestMutants -v -op 'combine_ll: delete barrier' -verdicts
package mutation
