package rendezvous

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"
)

// Protocol is the version of what travels in frames.
const Protocol = 1

// MaxSize is the most ranks that a group can have: as many descriptors fit
// into one message of a Unix socket.
const MaxSize = 128

// The frames. To the hub: hello, gather, giveUp, beat, bye. From the hub:
// welcome, refused, gathered, beat, gone, bye.
const (
	kindHello    kind = iota + 1 // Member as JSON
	kindWelcome                  // welcome as JSON
	kindRefused                  // text: this rank cannot be in the group
	kindGather                   // where, then the message
	kindGiveUp                   // where, then text
	kindGathered                 // where, 0 and all messages with their lengths, or 1 and text
	kindBeat                     // from the hub: for each rank a uint32, see ages
	kindGone                     // RankError as JSON
	kindBye                      // to the hub: this rank leaves; from the hub: uint32, the rank that left
)

// Member is what a rank tells all others of itself.
type Member struct {
	Protocol   int
	Rank, Size int
	Group      string // names the group
	Generation int
	Host       string // for people
	HostID     string // the same for processes that can share descriptors
	PID        int
	Same       map[string]string // what must be equal on all ranks
	Data       []byte            // what users of the package add
}

// welcome ends the forming of a group.
type welcome struct {
	Members []Member
	Error   string // why there is no group
	Kind    string // of Error: "missing", "mismatch" or ""
	Socket  string // path for descriptors, "" if there is none
	NoFDs   string // why not
	Ticket  []byte // with which this rank identifies itself there
}

// where names a round: of AllGather (channel 0) or of Leave (channel 1).
type where struct {
	channel byte
	seq     uint32
}

const (
	channelGather = iota
	channelLeave
	channels
)

func (w where) encode() []byte { return binary.BigEndian.AppendUint32([]byte{w.channel}, w.seq) }

func decodeWhere(p []byte) (where, []byte, error) {
	if len(p) < 5 || p[0] >= channels {
		return where{}, nil, fmt.Errorf("a round that does not exist")
	}
	return where{p[0], binary.BigEndian.Uint32(p[1:])}, p[5:], nil
}

// encodeAll packs all ranks' messages.
func encodeAll(msgs [][]byte) []byte {
	var b []byte
	for _, m := range msgs {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(m))), m...)
	}
	return b
}

func decodeAll(p []byte, size int) ([][]byte, error) {
	out := make([][]byte, size)
	for i := range out {
		if len(p) < 4 {
			return nil, fmt.Errorf("messages of %d ranks, want %d", i, size)
		}
		n := int(binary.BigEndian.Uint32(p))
		if p = p[4:]; n > len(p) {
			return nil, fmt.Errorf("a message of %d bytes in %d", n, len(p))
		}
		out[i], p = p[:n:n], p[n:]
	}
	if len(p) > 0 {
		return nil, fmt.Errorf("%d bytes after the last message", len(p))
	}
	return out, nil
}

// absent is the age of a rank that has not come yet.
const absent = ^uint32(0)

// encodeAges packs how long ago each rank was heard of, in milliseconds.
func encodeAges(ages []time.Duration) []byte {
	var b []byte
	for _, a := range ages {
		ms := absent
		if a >= 0 {
			ms = uint32(min(a.Milliseconds(), int64(absent-1)))
		}
		b = binary.BigEndian.AppendUint32(b, ms)
	}
	return b
}

// decodeAges is the reverse; -1 stands for a rank that has not come. There are
// as many as rank 0 believes that there are ranks.
func decodeAges(p []byte) ([]time.Duration, error) {
	if len(p)%4 != 0 || len(p) > 4*MaxSize {
		return nil, fmt.Errorf("ages of %d bytes", len(p))
	}
	out := make([]time.Duration, len(p)/4)
	for i := range out {
		if ms := binary.BigEndian.Uint32(p[4*i:]); ms == absent {
			out[i] = -1
		} else {
			out[i] = time.Duration(ms) * time.Millisecond
		}
	}
	return out, nil
}

func encodeJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain structs of this package
	}
	return b
}
