package rendezvous

import (
	"errors"
	"fmt"
)

// Errors to compare with through errors.Is.
var (
	// ErrSecret: the other side does not know this rank's secret.
	ErrSecret = errors.New("another secret")
	// ErrClosed: this rank has closed its Session.
	ErrClosed = errors.New("the session is closed")
	// ErrMismatch: the ranks differ in something that must be the same.
	ErrMismatch = errors.New("the ranks do not fit together")
	// ErrMissing: ranks did not come in time.
	ErrMissing = errors.New("ranks are missing")
)

// RankError says that a rank's process is gone, and that the group is at an
// end because of it. All other ranks get an equal one.
type RankError struct {
	Rank int
	Host string
	PID  int
	What string // what became of it, e.g. "exited"
}

func (e *RankError) Error() string {
	return fmt.Sprintf("rank %d (%s, pid %d) %s", e.Rank, e.Host, e.PID, e.What)
}
