package rendezvous

import (
	"encoding/binary"
	"fmt"
)

// round is one exchange at the hub.
type round struct {
	msgs    [][]byte
	arrived []bool
	failed  string // why it ended without all messages
	opener  *seat  // the first to arrive
	told    bool   // those who had arrived have the result
}

// maxRounds bounds the rounds that a rank can have opened, by being the first to
// arrive: it may arrive at several of Leave before another arrives at the first.
// Each rank has its own limit, so that none is cut off for what another does.
const maxRounds = 4096

// arrive adds a rank's message to a round; mu is held.
func (h *hub) arrive(s *seat, w where, msg []byte) error {
	x, err := h.round(s, w)
	if err != nil {
		return err
	}
	if x.arrived[s.member.Rank] {
		return fmt.Errorf("two messages to round %d", w.seq)
	}
	x.arrived[s.member.Rank], x.msgs[s.member.Rank] = true, msg
	if x.told { // and failed: the others were not waited for
		h.push(s, kindGathered, result(w, x))
	}
	h.settle(w, x)
	return nil
}

func (h *hub) round(s *seat, w where) (*round, error) {
	x := h.rounds[w]
	if x == nil {
		if s.opened >= maxRounds {
			return nil, fmt.Errorf("more than %d open rounds", maxRounds)
		}
		s.opened++
		x = &round{opener: s, msgs: make([][]byte, h.cfg.Size), arrived: make([]bool, h.cfg.Size)}
		h.rounds[w] = x
	}
	return x, nil
}

// missing returns the ranks that a round still needs; mu is held. A rank that
// has left the group in order counts as having left everything.
func (h *hub) missing(w where, x *round) []int {
	var out []int
	for r, here := range x.arrived {
		if s := h.seats[r]; !here && (w.channel == channelGather || s == nil || !s.left) {
			out = append(out, r)
		}
	}
	return out
}

// settle answers a round that is complete, has failed, or needs a rank that has
// left, and forgets one that all ranks have arrived at; mu is held.
func (h *hub) settle(w where, x *round) {
	missing := h.missing(w, x)
	for _, r := range missing {
		if s := h.seats[r]; x.failed == "" && s != nil && s.left {
			x.failed = fmt.Sprintf("rank %d (%s, pid %d) has left the group", r, s.member.Host, s.member.PID)
		}
	}
	if !x.told && (missing == nil || x.failed != "") {
		x.told = true
		for r, s := range h.seats {
			if s != nil && x.arrived[r] {
				h.push(s, kindGathered, result(w, x))
			}
		}
	}
	if missing == nil {
		x.opener.opened--
		delete(h.rounds, w)
	}
}

// giveUp ends a round for everybody: rank s waits no longer; mu is held. A
// round that is complete stays so.
func (h *hub) giveUp(s *seat, w where, why string) error {
	x := h.rounds[w]
	if x == nil || x.told {
		return nil
	}
	x.failed = fmt.Sprintf("%s did not come while rank %d waited: %s", ranks(h.missing(w, x)), s.member.Rank, why)
	h.settle(w, x)
	return nil
}

// leave notes that a rank goes in order; mu is held.
func (h *hub) leave(s *seat) {
	if !h.formed {
		h.lose(s, "gave up")
		return
	}
	for _, o := range h.seats { // itself too: it waits for that
		if o != nil {
			h.push(o, kindBye, binary.BigEndian.AppendUint32(nil, uint32(s.member.Rank)))
		}
	}
	s.left = true
	for w, x := range h.rounds {
		h.settle(w, x)
	}
}

// result is the answer to a round.
func result(w where, x *round) []byte {
	if x.failed != "" {
		return append(append(w.encode(), 1), x.failed...)
	}
	return append(append(w.encode(), 0), encodeAll(x.msgs)...)
}
