package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// giveUpLimit is how long the hub may take to say how a round ended that this
// rank gave up.
const giveUpLimit = 2 * time.Second

// Rank, Size and Members say who this rank is and who the others are, by rank.
func (s *Session) Rank() int         { return s.cfg.Rank }
func (s *Session) Size() int         { return s.cfg.Size }
func (s *Session) Members() []Member { return s.members }

// Config is what the rank joined with, without the secret.
func (s *Session) Config() Config {
	c := s.cfg
	c.Token = ""
	return c
}

// Err is why the group is at an end, nil while it is not: a *RankError once a
// rank is gone, ErrClosed after Close.
func (s *Session) Err() error {
	if !s.over.Load() {
		return nil // for those who ask at every step
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.closed {
		return ErrClosed
	}
	return s.err
}

// OnFailure calls f, in a goroutine of its own, when the group is at an end
// other than by ranks that leave it in order, at once if it is already. After
// stop f is not started.
func (s *Session) OnFailure(f func(error)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		go f(s.err)
		return func() {}
	}
	id := s.watched
	s.watched++
	s.watchers[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, id)
	}
}

// Heard returns how long ago each rank gave a sign of life; 0 for this rank.
func (s *Session) Heard() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]time.Duration, s.cfg.Size)
	since := time.Since(s.heard)
	for r := range out {
		if r < len(s.ages) && r != s.cfg.Rank {
			out[r] = s.ages[r] + since
		}
	}
	return out
}

// Stats returns the counters.
func (s *Session) Stats() Stats {
	out := Stats{Gathers: s.stats.gathers.Load(), Heartbeats: s.stats.beats.Load(), Descriptors: s.stats.descriptors.Load(),
		BytesIn: s.conn.bytesIn.Load(), BytesOut: s.conn.bytesOut.Load()}
	if s.hub != nil {
		s.hub.mu.Lock()
		out.Rejected = s.hub.rejected
		s.hub.mu.Unlock()
	}
	return out
}

// start arrives at the next round of a channel. The answer comes in any case.
func (s *Session) start(channel byte, msg []byte) (where, chan answer) {
	c := make(chan answer, 1)
	s.mu.Lock()
	w := where{channel, s.next[channel]}
	s.next[channel]++
	err := s.err
	if err == nil && s.closed {
		err = ErrClosed
	}
	if err == nil {
		s.waiting[w] = c
	}
	s.mu.Unlock()
	if err != nil {
		c <- answer{err: err}
		return w, c
	}
	if err := s.conn.send(kindGather, append(w.encode(), msg...), sendLimit); err != nil {
		s.lose("exited, or does not read any more") // the reader may know better, and first
	}
	return w, c
}

// wait waits for a round's answer. If the context ends first, the round ends
// for all ranks, unless it was complete before that came to the hub.
func (s *Session) wait(ctx context.Context, w where, c chan answer) answer {
	select {
	case a := <-c:
		return a
	case <-ctx.Done():
	}
	if err := s.conn.send(kindGiveUp, append(w.encode(), context.Cause(ctx).Error()...), sendLimit); err != nil {
		return answer{err: err}
	}
	select {
	case a := <-c:
		if a.err != nil && s.Err() == nil {
			a.err = &gaveUp{a.err.Error(), context.Cause(ctx)}
		}
		return a
	case <-time.After(giveUpLimit):
		return answer{err: fmt.Errorf("rank 0 does not answer: %w", context.Cause(ctx))}
	}
}

// gaveUp is the error of the rank whose context ended: the text is the same on
// all ranks.
type gaveUp struct {
	text  string
	cause error
}

func (e *gaveUp) Error() string { return e.text }
func (e *gaveUp) Unwrap() error { return e.cause }

// AllGather gives every rank every rank's message, of at most MaxMessage bytes,
// by rank. It returns when all ranks have called it, or with an error on all
// ranks if one cannot.
func (s *Session) AllGather(ctx context.Context, msg []byte) ([][]byte, error) {
	if len(msg) > MaxMessage {
		return nil, fmt.Errorf("a message of %d bytes: at most %d", len(msg), MaxMessage)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	w, c := s.start(channelGather, msg)
	a := s.wait(ctx, w, c)
	if a.err == nil {
		s.stats.gathers.Add(1)
	}
	return a.msgs, a.err
}

// Leave says that this rank has done with something that all ranks share, and
// returns a channel that is closed when all of them have, or when the group is
// at an end, or when limit has passed; the error, if any, comes first. Calls
// correspond in their order on each rank.
func (s *Session) Leave(limit time.Duration) <-chan error {
	w, c := s.start(channelLeave, nil)
	done := make(chan error, 1)
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if a := s.wait(ctx, w, c); a.err != nil {
			done <- a.err
		}
	}()
	return done
}

// NoFDs says why descriptors cannot be shared, "" if they can.
func (s *Session) NoFDs() string { return s.noFDs }

// ShareFDs gives every rank a descriptor of what each rank's fd refers to, -1
// for a rank that passes -1. The caller's own fd stays the caller's, and those
// returned are the caller's to close, its own among them. If err is not nil the
// call fails on all ranks, with its text.
func (s *Session) ShareFDs(ctx context.Context, fd int, err error) ([]int, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if s.noFDs != "" {
		return nil, errors.New("descriptors cannot be shared: " + s.noFDs)
	}
	s.mu.Lock()
	seq := s.next[channelGather] // the round that follows names this one
	s.mu.Unlock()
	var text []byte
	if err == nil {
		err = s.mailbox.send(seq, fd)
	}
	if err != nil {
		text = []byte(err.Error())
	}
	all, gerr := s.AllGather(ctx, text)
	if gerr != nil {
		return nil, gerr
	}
	for r, why := range all {
		if len(why) > 0 {
			return nil, fmt.Errorf("rank %d: %s", r, why)
		}
	}
	// All have sent theirs: they are on their way.
	ctx, stop := context.WithTimeout(ctx, handshakeLimit)
	defer stop()
	end := s.OnFailure(func(error) { stop() })
	defer end()
	fds, err := s.mailbox.receive(ctx, seq, s.cfg.Size)
	if err != nil {
		if gone := s.Err(); gone != nil {
			return nil, gone
		}
		return nil, err
	}
	for _, fd := range fds {
		if fd >= 0 {
			s.stats.descriptors.Add(1)
		}
	}
	return fds, nil
}

// CloseFDs closes what ShareFDs returned.
func CloseFDs(fds []int) { closeFDs(fds) }

// Left returns the ranks that have left the group in order.
func (s *Session) Left() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.left)
}
