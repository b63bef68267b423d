// Package spec reads the description of a mixture-of-experts model's shape from
// which moegen generates code: YAML, version 1.
//
// Four keys make a spec, everything else has a default:
//
//	hidden_dim: 4096
//	topk: 8
//	dtype: bf16
//	ep_size: 8
//
// [Parse] and [Load] report every mistake of a file at once, each as
// file:line:col with the field, what was given and what is allowed; the error
// is an [ErrorList]. A spec that they return is complete (no field is left to a
// later default) and valid. [Spec.Canonical] writes it back with every field
// spelled out, and [Spec.Hash] identifies it.
//
// Where a model's config.json from Hugging Face is at hand, a spec can name it, and
// takes hidden_dim, num_experts and topk from there; [Draft] writes such a spec:
//
//	from: config.json
//	dtype: bf16
//	ep_size: 8
//
// # What is accepted
//
// One YAML document of at most 1 MiB of UTF-8, with or without a byte order
// mark, with LF or CRLF line ends. JSON is YAML, so a JSON object will do. What
// YAML offers beyond that is refused, because a spec that reads differently
// from how it looks is worse than one that is longer: anchors, aliases, merge
// keys, tags, duplicate keys, unknown keys, further documents, numbers that are
// not plain decimal digits (8.0, 4e3, 0x10, 0o10, 010, 1_000, "8").
package spec
