// Package layer runs a whole MoE layer exchange and verifies it: it is what
// `moegen run` does, and what `moegen bench` measures.
//
// A run makes inputs from a seed, drives the dispatchers of all ranks through
// eager steps and graph replays with changing token counts, and compares what
// every rank received and computed with a reference on the host:
//
//   - the gathered tensors bit by bit with the concatenation of all ranks'
//     rows, and the step's counts, offsets, total and maximum;
//   - the combined rows element by element with sums in float64, each within a
//     bound on the rounding errors that the formats make unavoidable (see
//     rounding.go for its derivation);
//   - memory that a step must not touch: rows past the counts still hold the
//     pattern that they were filled with before the step.
//
// The experts are the demonstration kernel of package templates: expert e
// multiplies a token by a number that depends on e alone.
//
// # Experts of a spec that does not say how many there are
//
// Where num_experts is 0, a run assumes 8 experts a rank, or as many as topk
// needs, so that there is something to route to. See Experts.
package layer
