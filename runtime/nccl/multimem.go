//go:build linux && cgo && !nomulticast

package nccl

const (
	multicastBuilt = true
	multimemOp     = "ncclGetLsaMultimemDevicePointer"
)
