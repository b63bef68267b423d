// Package nvcc turns CUDA sources into images that a driver can load. It finds a
// CUDA compiler, runs it with fixed flags and keeps what it makes in a cache.
//
//	c, err := nvcc.Find(ctx)
//	img, err := c.Compile(ctx, nvcc.Source{Name: "moe.cu", Text: text}, nvcc.Target{Arch: "sm_90a"})
//
// # Cache
//
// The cache is content-addressed: an entry's key is the SHA-256 of the compiler's
// version, the flags, the source's base name and the source's bytes. Sources have to
// be self-contained, since files that they include are not part of the key. An entry
// is written aside, synced and renamed into place, so a reader sees all of it or none
// of it; its digest is checked at each read, and a damaged entry is compiled again.
// File locks only keep two processes from doing the same work twice: where they do
// not work, everything else still does. A cache that cannot be read or written costs
// time, never the result; Image.Warnings then says what was wrong.
//
// # Environment
//
//	MOEGEN_NVCC         the compiler to use; no other is looked for
//	MOEGEN_CACHE_DIR    the cache's directory (default: moegen in the user's cache directory)
//	MOEGEN_DISABLE_JIT  1: use cached images only, never run the compiler
//	NVCC_CCBIN          nvcc's own: the host C++ compiler, which it needs for device code too
package nvcc
