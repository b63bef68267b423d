// Package gpu holds the tests that need GPUs. On a machine without them they
// are skipped, loudly; with MOEGEN_GPU_REHEARSAL=1 they run on the emulator
// instead, with reduced sizes and without limits on time, so that what will
// run on rented hardware has run before.
//
// Compiled (see buildtools/gpu-bundle.sh), they need nothing but the folder
// "generated" beside them. Results go to the folder $MOEGEN_RESULTS.
//
// Multicast is off: transports are p2p and nccl only.
package gpu
