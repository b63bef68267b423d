package rendezvous

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// post hands file descriptors round among the ranks of one host. It is the
// hub's; a mailbox is a rank's end of it. Messages are 4 bytes of round, then
// for each rank (or from a rank, for itself) whether there is a descriptor.
type post struct {
	ln      *net.UnixListener
	path    string
	tickets []string // of each rank
	served  sync.WaitGroup

	mu        sync.Mutex
	strangers map[*net.UnixConn]bool // connections that have not identified themselves
	conns     []*net.UnixConn        // by rank
	parcels   map[uint32]*parcel
	closed    bool
}

// parcel is one round under way.
type parcel struct {
	fds  []int // -1: none
	have []bool
	left int
}

const (
	ticketSize = 32
	// postLimit is how long a message may take that only a buffer has to take.
	postLimit = 2 * time.Second
)

// newPost listens in the private directory.
func newPost(size int) (*post, error) {
	dir, err := PrivateDir()
	if err != nil {
		return nil, err
	}
	sweep(dir)
	path := filepath.Join(dir, rand.Text()[:12]+".sock")
	if len(path) > 107 {
		return nil, fmt.Errorf("the path %s is too long for a socket: set %s to a shorter one", path, DirEnv)
	}
	ln, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	p := &post{ln: ln, path: path, conns: make([]*net.UnixConn, size), parcels: map[uint32]*parcel{}, strangers: map[*net.UnixConn]bool{}}
	for range size {
		t := make([]byte, ticketSize)
		rand.Read(t)
		p.tickets = append(p.tickets, string(t))
	}
	p.served.Go(p.accept)
	return p, nil
}

// sweep removes sockets of processes that were killed while a group formed.
func sweep(dir string) {
	paths, _ := filepath.Glob(filepath.Join(dir, "*.sock"))
	for _, path := range paths {
		if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			os.Remove(path)
		}
	}
}

func (p *post) accept() {
	for {
		c, err := p.ln.AcceptUnix()
		if err != nil {
			return // closed
		}
		p.served.Go(func() { p.serve(c) })
	}
}

// sameUser says whether the process at the other end is of this user.
func sameUser(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		return cerr
	}
	if err == nil && cred.Uid != uint32(os.Geteuid()) {
		err = fmt.Errorf("the process at the other end is of user %d, this one of %d", cred.Uid, os.Geteuid())
	}
	return err
}

// serve takes one rank's descriptors until the connection ends.
func (p *post) serve(c *net.UnixConn) {
	defer c.Close()
	p.mu.Lock()
	p.strangers[c] = true
	if p.closed {
		c.Close()
	}
	p.mu.Unlock()
	rank, err := p.identify(c)
	p.mu.Lock()
	delete(p.strangers, c)
	p.mu.Unlock()
	if err != nil {
		return
	}
	for {
		head, fds, err := receiveFDs(c, 5, 1)
		if err != nil || len(head) != 5 {
			closeFDs(fds)
			return
		}
		fd := -1
		if len(fds) == 1 {
			fd = fds[0]
		}
		p.take(rank, binary.BigEndian.Uint32(head), fd)
	}
}

func (p *post) identify(c *net.UnixConn) (int, error) {
	if err := errors.Join(c.SetDeadline(time.Now().Add(handshakeLimit)), sameUser(c)); err != nil {
		return 0, err
	}
	ticket := make([]byte, ticketSize+1)
	n, err := c.Read(ticket)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for rank, t := range p.tickets {
		if t == string(ticket[:n]) && p.conns[rank] == nil && !p.closed {
			p.conns[rank] = c
			if !slices.Contains(p.conns, nil) {
				p.ln.Close() // nobody else is expected; the socket's name goes with it
			}
			return rank, c.SetDeadline(time.Time{})
		}
	}
	return 0, errors.New("no such ticket")
}

// take adds a rank's descriptor to its round, and sends everything to everybody
// when it is complete. Rounds begin when all ranks have ended the one before:
// what is left of older ones will never be complete.
func (p *post) take(rank int, seq uint32, fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for old, x := range p.parcels {
		if int32(old-seq) < 0 {
			x.discard()
			delete(p.parcels, old)
		}
	}
	x := p.parcels[seq]
	if x == nil {
		x = &parcel{fds: make([]int, len(p.conns)), have: make([]bool, len(p.conns)), left: len(p.conns)}
		for i := range x.fds {
			x.fds[i] = -1
		}
		p.parcels[seq] = x
	}
	if x.have[rank] || p.closed {
		closeFDs([]int{fd})
		return
	}
	x.have[rank], x.fds[rank] = true, fd
	if x.left--; x.left > 0 {
		return
	}
	delete(p.parcels, seq)
	head := binary.BigEndian.AppendUint32(nil, seq)
	var fds []int
	for _, fd := range x.fds {
		if fd >= 0 {
			head, fds = append(head, 1), append(fds, fd)
		} else {
			head = append(head, 0)
		}
	}
	for _, c := range p.conns {
		// Who cannot take it is gone, or will miss it in time.
		_ = sendFDs(c, head, fds)
	}
	x.discard()
}

func (x *parcel) discard() { closeFDs(x.fds) }

func (p *post) close() {
	defer p.served.Wait()
	p.ln.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for c := range p.strangers {
		c.Close()
	}
	for _, c := range p.conns {
		if c != nil {
			c.Close()
		}
	}
	for _, x := range p.parcels {
		x.discard()
	}
	clear(p.parcels)
}

// mailbox is a rank's connection to the post.
type mailbox struct{ c *net.UnixConn }

func openMailbox(path string, ticket []byte) (*mailbox, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	if err = sameUser(c); err == nil {
		_, err = c.Write(ticket)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &mailbox{c}, nil
}

// send gives this rank's descriptor to a round; -1 is none.
func (m *mailbox) send(seq uint32, fd int) error {
	head := binary.BigEndian.AppendUint32(nil, seq)
	if fd < 0 {
		return sendFDs(m.c, append(head, 0), nil)
	}
	return sendFDs(m.c, append(head, 1), []int{fd})
}

// receive returns all ranks' descriptors of a round, -1 where there is none.
// They are the caller's to close.
func (m *mailbox) receive(ctx context.Context, seq uint32, size int) ([]int, error) {
	if err := m.c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { m.c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		head, fds, err := receiveFDs(m.c, 4+size, size)
		if err == nil && len(head) == 4+size && int32(binary.BigEndian.Uint32(head)-seq) < 0 {
			closeFDs(fds)
			continue // of a round that this rank had given up
		}
		var out []int
		if err == nil && len(head) == 4+size && binary.BigEndian.Uint32(head) == seq {
			out = distribute(head[4:], fds)
		}
		if out == nil {
			closeFDs(fds)
			if err == nil {
				err = errors.New("a message that does not belong here")
			}
			return nil, fmt.Errorf("descriptors of the other ranks: %w", errors.Join(err, context.Cause(ctx)))
		}
		return out, nil
	}
}

// distribute assigns descriptors to the ranks that have one; nil if they do not
// go up.
func distribute(has []byte, fds []int) []int {
	out := make([]int, len(has))
	for i := range out {
		out[i] = -1
		if has[i] != 0 {
			if len(fds) == 0 {
				return nil
			}
			out[i], fds = fds[0], fds[1:]
		}
	}
	if len(fds) > 0 {
		return nil
	}
	return out
}

func (m *mailbox) close() error { return m.c.Close() }

func sendFDs(c *net.UnixConn, head []byte, fds []int) error {
	if c == nil {
		return net.ErrClosed
	}
	if err := c.SetWriteDeadline(time.Now().Add(postLimit)); err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	_, _, err := c.WriteMsgUnix(head, rights, nil)
	return err
}

// receiveFDs reads one message. The descriptors are the caller's also where
// there is an error.
func receiveFDs(c *net.UnixConn, bytes, most int) (head []byte, fds []int, err error) {
	head, oob := make([]byte, bytes), make([]byte, syscall.CmsgSpace(4*most))
	n, on, flags, _, err := c.ReadMsgUnix(head, oob) // sets close-on-exec
	if err != nil {
		return nil, nil, err
	}
	msgs, err := syscall.ParseSocketControlMessage(oob[:on])
	for i := range msgs {
		if more, e := syscall.ParseUnixRights(&msgs[i]); e == nil {
			fds = append(fds, more...)
		}
	}
	if err == nil && (n == 0 || len(fds) > most || flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0) {
		err = errors.New("the connection ended, or sent too much")
	}
	return head[:n], fds, err
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			_ = syscall.Close(fd) // nothing to lose
		}
	}
}
