// Package gen is the generator behind the moegen command, as a library.
//
//	set, err := gen.Generate(ctx, gen.Options{SpecFile: "moe.yaml"})
//	report, err := set.Write(ctx, set.Dir)
//
// For the spec NAME.yaml a [FileSet] holds NAME_moegen.go (the typed
// dispatcher), NAME_moegen.cu (the kernels), NAME_moegen.ptx (the kernels
// compiled, for the emulator and for machines without nvcc),
// NAME_moegen_test.go (a test on the emulator, and an example) and
// NAME_moegen.json (the manifest). The same spec gives the same bytes, but for
// the PTX, which depends on the compiler's version: one that was compiled from
// the same source is kept as it is.
//
// [FileSet.Compare] tells how a directory differs from what would be written.
package gen
