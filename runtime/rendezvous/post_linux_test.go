package rendezvous

import (
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asUser runs f on a thread of another user, which ends with it.
func asUser(uid uintptr, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread goes with the goroutine
		const keep = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uid, keep); errno != 0 {
			done <- errno
			return
		}
		done <- f()
	}()
	return <-done
}

// TestOtherUser: another user cannot reach the socket; who reaches it all the
// same gets nothing, even with a ticket.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: acting as another user needs root")
	}
	privateDir(t)
	p, err := newPost(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	dial := func(ticket string) error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: p.path}); err != nil {
			return err
		}
		if err := unix.Send(fd, []byte(ticket), unix.MSG_NOSIGNAL); err != nil {
			return err
		}
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
		n, err := unix.Read(fd, make([]byte, 1))
		if err == nil && n == 0 {
			return errCut
		}
		return err
	}
	if err := asUser(4242, func() error { return dial(p.tickets[0]) }); !errors.Is(err, unix.EACCES) {
		t.Errorf("another user reaches the socket: %v", err)
	}
	if err := errors.Join(os.Chmod(os.Getenv(DirEnv), 0o755), os.Chmod(p.path, 0o777)); err != nil {
		t.Fatal(err)
	}
	if err := asUser(4242, func() error { return dial(p.tickets[0]) }); !errors.Is(err, errCut) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("another user is let in: %v", err)
	}
	// This user without a ticket is cut off, and with one stays.
	if err := dial("no ticket"); !errors.Is(err, errCut) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("without a ticket: %v", err)
	}
	if err := dial(p.tickets[0]); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("with a ticket: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns[0] == nil || p.conns[1] != nil {
		t.Error("the wrong ones are let in")
	}
}

var errCut = errors.New("cut off")

// TestOddDescriptors: a rank that sends what it should not is cut off, and what
// it sent is closed.
func TestOddDescriptors(t *testing.T) {
	privateDir(t)
	p, err := newPost(2)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	before := openFDs(t)
	for name, send := range map[string]func(m *mailbox) error{
		"two at once":     func(m *mailbox) error { return sendFDs(m.c, []byte{0, 0, 0, 0, 1}, []int{0, 0}) },
		"a short message": func(m *mailbox) error { return sendFDs(m.c, []byte{0}, []int{0}) },
		"a long message":  func(m *mailbox) error { return sendFDs(m.c, make([]byte, 100), []int{0}) },
	} {
		m, err := openMailbox(p.path, []byte(p.tickets[1]))
		if err == nil {
			err = send(m)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m.c.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := m.c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
		m.close()
		p.mu.Lock()
		p.conns[1] = nil // for the next case
		p.mu.Unlock()
	}
	settlesAt(t, before)
	if distribute([]byte{1, 0, 1}, []int{7}) != nil || distribute([]byte{0, 0}, []int{7}) != nil {
		t.Error("descriptors that do not go up")
	}
}
