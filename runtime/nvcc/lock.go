package nvcc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	lockDir  = ".locks"
	lockPoll = 25 * time.Millisecond
)

// lockWait bounds the wait for another process. Tests shorten it.
var lockWait = 2 * time.Minute

var errLocked = errors.New("it is locked")

// fileLock is a lock that this process holds until it ends. Its file says who holds it.
type fileLock struct{ f *flock.Flock }

// tryLock takes the lock at path, or fails at once.
func tryLock(path string) (*fileLock, error) {
	f := flock.New(path, flock.SetPermissions(0o600))
	ok, err := f.TryLock()
	if err == nil && !ok {
		err = errLocked
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	l := &fileLock{f: f}
	l.sign()
	return l, nil
}

func (l *fileLock) sign() {
	// The signature is for people and for sweeping; the lock works without it.
	_ = os.WriteFile(l.f.Path(), fmt.Appendf(nil, "process %d on %s\n", os.Getpid(), hostname()), 0o600)
}

func (l *fileLock) unlock() {
	if l != nil {
		l.f.Close()
	}
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

// lockedHere reports whether the lock at path was taken on this host.
func lockedHere(path string) bool {
	text, err := os.ReadFile(path)
	return err == nil && strings.HasSuffix(strings.TrimSpace(string(text)), " on "+hostname())
}

// held is the lock of an entry, or the news that there is none.
type held struct {
	lock    *fileLock
	warning string // why it is not held
}

// lock waits for the lock of an entry. It only saves work: when the lock cannot be had
// (no locks on this file system, a holder that hangs), the caller goes on without, and
// the rename keeps the cache right. A deadline leaves half of its time to compile.
func (c *cache) lock(ctx context.Context, entry string) *held {
	path := filepath.Join(c.dir, lockDir, entry)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return &held{warning: fmt.Sprintf("compiled without a lock: %v", err)}
	}
	wait := lockWait
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)/2)
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	f := flock.New(path, flock.SetPermissions(0o600))
	ok, err := f.TryLockContext(limited, lockPoll)
	if ok {
		l := &fileLock{f: f}
		l.sign()
		return &held{lock: l}
	}
	f.Close()
	if limited.Err() != nil {
		holder, _ := os.ReadFile(path)
		return &held{warning: fmt.Sprintf("compiled without waiting any longer for the lock %s, held by %s",
			path, strings.TrimSpace(string(holder)))}
	}
	return &held{warning: fmt.Sprintf("compiled without a lock: %v", err)}
}

// release gives the lock back. Removing the file first is safe as the lock protects
// nothing: at worst two processes compile the same source.
func (h *held) release() {
	if h.lock == nil {
		return
	}
	os.Remove(h.lock.f.Path())
	h.lock.unlock()
}
