package rendezvous

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// push queues a frame; mu is held. A rank that reads nothing is cut off.
func (h *hub) push(s *seat, k kind, payload []byte) {
	if s.left || s.gone {
		return
	}
	select {
	case s.queue <- frame{k, payload}:
	default:
		s.conn.close() // read notices
	}
}

func (h *hub) write(s *seat) {
	for {
		select {
		case f := <-s.queue:
			if s.conn.send(f.kind, f.payload, sendLimit) != nil {
				s.conn.close()
				return
			}
		case <-h.done:
			for { // what is queued still goes out
				select {
				case f := <-s.queue:
					if s.conn.send(f.kind, f.payload, time.Second) != nil {
						s.conn.close()
						return
					}
				default:
					s.conn.close()
					return
				}
			}
		}
	}
}

// read handles a member's frames until it is gone.
func (h *hub) read(s *seat) {
	for {
		k, p, err := s.conn.receive()
		if err == nil {
			err = h.handle(s, k, p)
		}
		if err == nil {
			continue
		}
		s.conn.close()
		what := "exited"
		switch {
		case brokeProtocol(err):
			what = "was cut off: it sent " + err.Error()
		case s.member.HostID != h.cfg.hostID:
			what = "exited, or the network to its host broke"
		}
		h.mu.Lock()
		h.lose(s, what)
		h.mu.Unlock()
		return
	}
}

// brokeProtocol says whether an error is of the other side's making, and not
// of a connection's end.
func brokeProtocol(err error) bool {
	var ne net.Error
	return !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) && !errors.As(err, &ne)
}

// handle does what a member's frame asks for.
func (h *hub) handle(s *seat, k kind, p []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.heard = time.Now(); s.gone {
		return nil // too late
	}
	switch k {
	case kindBeat:
		return nil
	case kindBye:
		h.leave(s)
		return nil
	case kindGather, kindGiveUp:
		w, rest, err := decodeWhere(p)
		if err != nil {
			return err
		}
		if k == kindGiveUp {
			return h.giveUp(s, w, string(rest))
		}
		return h.arrive(s, w, rest)
	}
	return fmt.Errorf("a frame of kind %d", k)
}

// lose notes that a member is gone, and tells everybody; mu is held.
func (h *hub) lose(s *seat, what string) {
	if s.gone || s.left || h.closed || h.failed {
		return
	}
	e := &RankError{s.member.Rank, s.member.Host, s.member.PID, what}
	h.log.Warn("moegen group lost a rank", "rank", e.Rank, "host", e.Host, "pid", e.PID, "what", what)
	if !h.formed {
		e.What += " while the group formed"
		h.formed, h.lost, h.late = true, e, map[int]bool{}
	}
	for _, o := range h.seats { // itself too: it may only have been stopped
		if o != nil {
			h.push(o, kindGone, encodeJSON(e))
		}
	}
	s.gone = true
}

// linger gives ranks that have not come yet the time to learn that the group
// has lost one while it formed.
func (h *hub) linger(limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		h.mu.Lock()
		expected := 0
		for r, s := range h.seats {
			if s == nil && !h.late[r] {
				expected++
			}
		}
		done := h.lost == nil || expected == 0
		h.mu.Unlock()
		if done {
			return
		}
	}
}

// watch sends signs of life, and notices who gives none.
func (h *hub) watch() {
	tick := time.NewTicker(h.cfg.Heartbeat)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-h.done:
			return
		case <-tick.C:
		}
		now := time.Now()
		h.mu.Lock()
		ages := make([]time.Duration, len(h.seats))
		for r, s := range h.seats {
			if ages[r] = -1; s == nil {
				continue
			}
			if now.Sub(last) > h.cfg.Silence/2 {
				s.heard = now // it was this process that stood still
			}
			ages[r] = now.Sub(s.heard)
			if ages[r] > h.cfg.Silence {
				h.lose(s, silent(ages[r]))
			}
		}
		for _, s := range h.seats {
			if s != nil && len(s.queue) == 0 {
				h.push(s, kindBeat, encodeAges(ages))
			}
		}
		h.mu.Unlock()
		last = now
	}
}

func silent(age time.Duration) string {
	return fmt.Sprintf("has given no sign of life for %v: it is stopped, or its host is gone", age.Round(100*time.Millisecond))
}
