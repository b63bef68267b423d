package rendezvous

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Session is one rank's membership of a group. Its methods may be called from
// several goroutines, but AllGather and ShareFDs from one at a time, and in the
// same order on all ranks.
type Session struct {
	cfg     Config
	hub     *hub // rank 0's, else nil
	conn    *conn
	members []Member
	mailbox *mailbox
	noFDs   string

	welcomed chan welcome // the answer to the hello
	failed   chan struct{}
	ended    chan struct{} // closed by Close: heartbeats stop
	running  sync.WaitGroup

	mu       sync.Mutex
	err      error // why the group is at an end
	closed   bool
	next     [channels]uint32
	waiting  map[where]chan answer
	left     []int // ranks that have left in order
	watchers map[int]func(error)
	watched  int
	ages     []time.Duration // of the ranks, when the hub said so
	heard    time.Time       // of the hub

	over  atomic.Bool // err or closed is set
	stats stats
}

// answer is what the hub says to a round.
type answer struct {
	msgs [][]byte
	err  error
}

type stats struct{ gathers, beats, descriptors atomic.Uint64 }

// Stats counts what a Session has done.
type Stats struct {
	Gathers           uint64 // calls of AllGather that went well
	Heartbeats        uint64 // received
	Descriptors       uint64 // received
	BytesIn, BytesOut uint64 // on this rank's connection to the hub
	Rejected          uint64 // rank 0: connections turned away
}

// Join becomes one rank of a group and returns when all ranks are there. It
// fails on all ranks if one does not come before rank 0's deadline, differs from
// another in something that must be the same, or goes away meanwhile; a context
// without a deadline gets one of 5 minutes.
func Join(ctx context.Context, cfg Config, getenv func(string) string) (*Session, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	secret, loopback, err := LoadSecret(cfg.Token, getenv)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	s := &Session{cfg: cfg, welcomed: make(chan welcome, 1), failed: make(chan struct{}), ended: make(chan struct{}),
		waiting: map[where]chan answer{}, watchers: map[int]func(error){}}
	if err := s.connect(ctx, secret, loopback); err != nil {
		return nil, fmt.Errorf("rank %d of %d cannot join the group at %s: %w", cfg.Rank, cfg.Size, cfg.Address, err)
	}
	if err := s.form(ctx); err != nil {
		if s.hub != nil {
			s.hub.linger(lingerLimit)
		}
		s.shut()
		return nil, fmt.Errorf("rank %d of %d: no group at %s: %w", cfg.Rank, cfg.Size, cfg.Address, err)
	}
	return s, nil
}

// bounded gives a context without a deadline one.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultDeadline)
}

// form says hello and waits for the group.
func (s *Session) form(ctx context.Context) error {
	s.cfg.stage("connected")
	if err := s.conn.send(kindHello, encodeJSON(s.cfg.member()), sendLimit); err != nil {
		return err
	}
	s.conn.limit = maxFrame
	s.heard = time.Now()
	s.running.Go(s.read)
	s.running.Go(s.beat)
	s.cfg.stage("greeted")
	var w welcome
	select {
	case w = <-s.welcomed:
	case <-s.failed:
		return s.Err()
	case <-ctx.Done():
		_ = s.conn.send(kindBye, nil, time.Second) // the others need not wait either
		s.mu.Lock()
		defer s.mu.Unlock()
		var absent []int
		for r, a := range s.ages {
			if a < 0 {
				absent = append(absent, r)
			}
		}
		return fmt.Errorf("%w: %s did not come: %w", ErrMissing, ranks(absent), context.Cause(ctx))
	}
	switch w.Kind {
	case "mismatch":
		return fmt.Errorf("%w: %s", ErrMismatch, w.Error)
	case "missing":
		return fmt.Errorf("%w: %s", ErrMissing, w.Error)
	}
	s.cfg.stage("welcomed")
	s.members = w.Members
	s.openMailbox(w)
	// All ranks have what they need, or know what they lack.
	all, err := s.AllGather(ctx, []byte(s.noFDs))
	if err != nil {
		return err
	}
	for r, why := range all {
		if s.noFDs == "" && len(why) > 0 {
			s.noFDs = fmt.Sprintf("rank %d: %s", r, why)
		}
	}
	if s.hub != nil && s.hub.post != nil && s.noFDs != "" {
		s.hub.post.close() // of no use
	}
	s.cfg.stage("formed")
	return nil
}

func (s *Session) openMailbox(w welcome) {
	s.noFDs = w.NoFDs
	if w.Socket == "" {
		return
	}
	m, err := openMailbox(w.Socket, w.Ticket)
	if err != nil {
		s.noFDs = "the socket for descriptors: " + err.Error()
		return
	}
	s.mailbox = m
}

// read handles the hub's frames until the connection ends.
func (s *Session) read() {
	for {
		k, p, err := s.conn.receive()
		if err == nil {
			err = s.handle(k, p)
		}
		if err == nil {
			continue
		}
		what := "exited"
		if brokeProtocol(err) {
			what = "broke the protocol: it sent " + err.Error()
		} else if !errors.Is(err, io.EOF) && s.remoteHub() {
			what = "exited, or the network to its host broke"
		}
		s.lose(what)
		return
	}
}

// remoteHub says whether rank 0 is on another host, as far as that is known.
func (s *Session) remoteHub() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members == nil || s.members[0].HostID != s.cfg.hostID
}

// lose ends the group because of rank 0.
func (s *Session) lose(what string) {
	e := &RankError{Rank: 0, Host: hostOf(s.cfg.Address), What: what}
	s.mu.Lock()
	formed := s.members != nil
	if formed {
		e.Host, e.PID = s.members[0].Host, s.members[0].PID
	}
	orderly := slices.Contains(s.left, 0)
	s.mu.Unlock()
	switch {
	case orderly:
		// No failure: rank 0 leaves when all have done with what they shared.
		s.end(fmt.Errorf("rank 0 (%s, pid %d) has left the group", e.Host, e.PID), false)
	case !formed:
		s.fail(fmt.Errorf("rank 0 at %s %s while the group formed", s.cfg.Address, what))
	default:
		s.fail(e)
	}
}

func (s *Session) handle(k kind, p []byte) error {
	s.mu.Lock()
	s.heard = time.Now()
	s.mu.Unlock()
	switch k {
	case kindBeat:
		ages, err := decodeAges(p)
		if err != nil {
			return err
		}
		s.stats.beats.Add(1)
		s.mu.Lock()
		s.ages = ages
		s.mu.Unlock()
	case kindWelcome:
		var w welcome
		if err := json.Unmarshal(p, &w); err != nil {
			return err
		}
		if len(w.Members) != s.cfg.Size && w.Error == "" {
			return fmt.Errorf("a welcome to %d ranks", len(w.Members))
		}
		select {
		case s.welcomed <- w:
		default:
			return errors.New("a second welcome")
		}
	case kindRefused:
		s.fail(fmt.Errorf("rank 0 refuses: %s", p))
	case kindGone:
		e := new(RankError)
		if err := json.Unmarshal(p, e); err != nil {
			return err
		}
		s.fail(e)
	case kindBye:
		if len(p) != 4 || binary.BigEndian.Uint32(p) >= uint32(s.cfg.Size) {
			return errors.New("a bye of nobody")
		}
		s.mu.Lock()
		s.left = append(s.left, int(binary.BigEndian.Uint32(p)))
		s.mu.Unlock()
	case kindGathered:
		return s.gathered(p)
	default:
		return fmt.Errorf("a frame of kind %d", k)
	}
	return nil
}

func (s *Session) gathered(p []byte) error {
	w, rest, err := decodeWhere(p)
	if err != nil || len(rest) == 0 {
		return errors.Join(err, errors.New("a result without content"))
	}
	var a answer
	if rest[0] != 0 {
		a.err = errors.New(string(rest[1:]))
	} else if a.msgs, err = decodeAll(rest[1:], s.cfg.Size); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.waiting[w]; c != nil {
		delete(s.waiting, w)
		c <- a // has room
	}
	return nil
}

// beat gives signs of life and notices when the hub gives none.
func (s *Session) beat() {
	tick := time.NewTicker(s.cfg.Heartbeat)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-s.ended:
			return
		case <-s.failed:
			return
		case <-tick.C:
		}
		now := time.Now()
		s.mu.Lock()
		if now.Sub(last) > s.cfg.Silence/2 {
			s.heard = now // it was this process that stood still
		}
		age := now.Sub(s.heard)
		s.mu.Unlock()
		last = now
		if age > s.cfg.Silence {
			s.lose(silent(age))
			return
		}
		// If it cannot be sent, read comes to know why.
		_ = s.conn.send(kindBeat, nil, s.cfg.Silence)
	}
}

// fail ends the group, for the first reason that there is.
func (s *Session) fail(err error) { s.end(err, true) }

func (s *Session) end(err error, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.closed {
		return
	}
	s.err = err
	s.over.Store(true)
	close(s.failed)
	for w, c := range s.waiting {
		delete(s.waiting, w)
		c <- answer{err: err}
	}
	for _, f := range s.watchers {
		if tell {
			go f(err)
		}
	}
}

// shut closes what the session holds.
func (s *Session) shut() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.over.Store(true)
	close(s.ended)
	for w, c := range s.waiting {
		delete(s.waiting, w)
		c <- answer{err: ErrClosed}
	}
	s.mu.Unlock()
	if s.hub != nil {
		s.hub.close() // when all is sent
	}
	s.conn.close()
	if s.mailbox != nil {
		s.mailbox.close()
	}
	s.running.Wait() // a descriptor is closed when nobody reads from it any more
}

// Close leaves the group, in order. Ranks that still use it have the error that
// this rank has left at their next call. What AllGather or Leave wait for ends
// with ErrClosed. A second Close does nothing.
func (s *Session) Close() {
	if err := s.Err(); !errors.Is(err, ErrClosed) {
		_ = s.conn.send(kindBye, nil, time.Second) // else they see the connection end
		s.drain()
	}
	s.shut()
}

// drain waits until the hub has passed this rank's bye on.
func (s *Session) drain() {
	deadline := time.Now().Add(time.Second)
	for time.Now().Before(deadline) && s.Err() == nil {
		if slices.Contains(s.Left(), s.cfg.Rank) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
