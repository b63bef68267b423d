package runtime

import (
	"errors"
	"fmt"
	"strings"
)

// Errors to compare with through errors.Is. Calls that return one of them have
// launched nothing, and the group stays usable.
var (
	// ErrClosed: the dispatcher has been closed.
	ErrClosed = errors.New("the dispatcher is closed")
	// ErrOrder: BeginStep, Dispatch and Combine were not called in turn.
	ErrOrder = errors.New("calls out of order")
	// ErrTokens: more tokens than allowed, or fewer than none.
	ErrTokens = errors.New("token count out of range")
	// ErrTensor: a tensor is missing, misaligned or too small.
	ErrTensor = errors.New("unusable tensor")
	// ErrDevice: a stream belongs to another device than the dispatcher's rank.
	ErrDevice = errors.New("wrong device")
	// ErrGroup: the group does not fit the program, or its ranks differ.
	ErrGroup = errors.New("unsuitable group")
	// ErrNoTransport: no transport works for all ranks.
	ErrNoTransport = errors.New("no usable transport")
)

// Phase is the part of a step in which something failed.
type Phase int

const (
	PhaseCounts Phase = iota + 1
	PhaseDispatch
	PhaseCombine
)

func (p Phase) String() string {
	return [...]string{"step", "BeginStep", "Dispatch", "Combine"}[min(max(int(p), 0), 3)]
}

// Failure codes, as in the kernels' enum Code.
const (
	codeTimeout       = 1
	codeTooManyTokens = 2
	codeGridMismatch  = 3
)

// FailedError says that kernels gave up. All ranks of the group get one, and
// the group's dispatchers work no more: build new ones.
type FailedError struct {
	Phase  Phase
	Rank   int    // the rank that noticed
	Peer   int    // the rank it noticed it of
	Epoch  uint32 // how often the phase has run, modulo 2^32
	Reason string
	// Dump is how far the ranks of this process had come when the first of them
	// noticed; nil under an emulator that judges.
	Dump *Dump

	code int
}

// Timeout reports whether a rank did not come before the kernels' deadline.
func (e *FailedError) Timeout() bool { return e.code == codeTimeout }

func (e *FailedError) Error() string {
	return fmt.Sprintf("%s %d: rank %d: %s", e.Phase, e.Epoch, e.Rank, e.Reason)
}

// StepError says that a step was not done, on any rank, because one rank had
// more tokens than allowed (errors.Is ErrTokens). Its outputs are undefined;
// the group stays usable.
type StepError struct {
	Peer  int    // the rank with too many tokens
	Epoch uint32 // number of the step
}

func (e *StepError) Error() string {
	return fmt.Sprintf("step %d: rank %d has more tokens than the step's capacity, or fewer than none", e.Epoch, e.Peer)
}

func (e *StepError) Unwrap() error { return ErrTokens }

// decodeFailure turns the kernels' failure word into an error.
func decodeFailure(word uint64) error {
	e := &FailedError{Phase: Phase(word >> 48 & 0xff), Rank: int(word >> 40 & 0xff), Peer: int(word >> 32 & 0xff), Epoch: uint32(word), code: int(word >> 56)}
	switch e.code {
	case codeTooManyTokens:
		return &StepError{Peer: e.Peer, Epoch: e.Epoch}
	case codeTimeout:
		e.Reason = fmt.Sprintf("rank %d did not come before the timeout", e.Peer)
	case codeGridMismatch:
		e.Reason = fmt.Sprintf("rank %d runs the step with another token capacity: all ranks must use the same", e.Peer)
	case codePeerGone:
		e.Reason = fmt.Sprintf("rank %d is gone", e.Peer)
		if e.Peer == 0xff {
			e.Reason = "the group is at an end"
		}
	default:
		e.Reason = fmt.Sprintf("unknown failure %#x", word)
	}
	return e
}

// Refusal says why a rank cannot use a transport.
type Refusal struct {
	Rank      int
	Transport Transport
	Reason    string
}

func (r Refusal) String() string {
	return fmt.Sprintf("rank %d: %s: %s", r.Rank, r.Transport, r.Reason)
}

func joinRefusals(rs []Refusal) string {
	var b strings.Builder
	for i, r := range rs {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(r.String())
	}
	return b.String()
}
