//go:build linux && cgo && nomulticast

package nccl

// #cgo CFLAGS: -DMOENCCL_NO_MULTICAST
import "C"

const (
	multicastBuilt = false
	multimemOp     = "multimem pointer"
)
