// Package symm provides symmetric memory: every rank of a group allocates the
// same number of bytes on its GPU, and every rank can address every rank's,
// one by one through unicast addresses and, where the hardware can, all at
// once through a multicast address.
//
// Two providers make it. VMM uses the driver's virtual memory management and
// multicast calls; NCCL takes windows registered with libnccl. Kernels see
// addresses and never know who made them.
package symm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moegen/moegen/runtime/driver"
)

// Exchange is how the ranks of a group talk while they set memory up. All
// ranks call the same methods in the same order; each call returns when all
// have made it, or with an error on every rank if one of them cannot.
type Exchange interface {
	Size() int
	// AllGather gives every rank every rank's message, by rank.
	AllGather(ctx context.Context, rank int, msg []byte) ([][]byte, error)
	// ShareMemory gives every rank a handle on every rank's memory, usable
	// with the caller's device. release gives the handles up; the caller's own
	// memory stays the caller's to release.
	ShareMemory(ctx context.Context, rank int, m driver.Memory) (handles []driver.Memory, release func() error, err error)
	// ShareMulticast gives every rank a handle on the object that rank 0
	// passes; the other ranks pass nil. Without an error, rank 0's reference
	// has gone over to the exchange, and every rank calls release in the end.
	// No rank returns before all have a handle: an object without references
	// would be gone before a late rank opens it.
	ShareMulticast(ctx context.Context, rank int, m driver.Multicast) (handle driver.Multicast, release func() error, err error)
	// HandleKind is what memory must be created as to be shareable.
	HandleKind() driver.HandleKind
}

// Agree makes one rank's failure everybody's: it returns nil on all ranks if
// all passed nil, and otherwise on all ranks an error that names those who did
// not and why.
func Agree(ctx context.Context, x Exchange, rank int, what string, err error) error {
	var msg []byte
	if err != nil {
		msg = []byte(err.Error())
	}
	all, xerr := x.AllGather(ctx, rank, msg)
	if xerr != nil {
		return fmt.Errorf("%s: %w", what, xerr)
	}
	var nested *AgreeError
	if errors.As(err, &nested) && same(all) {
		return err // agreed on before: it names everybody already
	}
	var failed []string
	for r, m := range all {
		if len(m) > 0 {
			failed = append(failed, fmt.Sprintf("rank %d: %s", r, m))
		}
	}
	if failed == nil {
		return nil
	}
	return &AgreeError{What: what, Ranks: strings.Join(failed, "; "), Own: err}
}

func same(msgs [][]byte) bool {
	for _, m := range msgs {
		if !bytes.Equal(m, msgs[0]) {
			return false
		}
	}
	return true
}

// AgreeError says that one or more ranks could not do their part.
type AgreeError struct {
	What  string // the step of the set-up
	Ranks string // who failed, and why
	Own   error  // this rank's own error, nil if only others failed
}

func (e *AgreeError) Error() string { return e.What + ": " + e.Ranks }
func (e *AgreeError) Unwrap() error { return e.Own }
