package rendezvous

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

func newReader(p []byte) *bufio.Reader { return bufio.NewReader(bytes.NewReader(p)) }

// canned is a connection from which canned bytes come.
type canned struct {
	net.Conn // nil: other methods are not called
	r        io.Reader
}

func (c canned) Read(p []byte) (int, error)         { return c.r.Read(p) }
func (c canned) Write(p []byte) (int, error)        { return len(p), nil }
func (c canned) Close() error                       { return nil }
func (c canned) SetDeadline(time.Time) error        { return nil }
func (c canned) SetWriteDeadline(t time.Time) error { return nil }
func (c canned) RemoteAddr() net.Addr               { return &net.TCPAddr{} }

// FuzzStranger gives the hub and a dialing rank any bytes at all: neither
// accepts them, and neither panics.
func FuzzStranger(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte(magic))
	f.Add(append([]byte(magic), make([]byte, nonceSize+macSize)...))
	f.Add(append([]byte(magic), make([]byte, 1000)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := accepted(canned{r: bytes.NewReader(in)}, []byte(testToken)); err == nil {
			t.Error("the hub let it in")
		}
		if _, err := dialed(canned{r: bytes.NewReader(in)}, []byte(testToken)); err == nil {
			t.Error("a rank took it for the hub")
		}
	})
}

// FuzzFrames gives frames with any content, as only an authenticated peer could
// send them, to the hub and to a rank's session: they are handled or refused.
func FuzzFrames(f *testing.F) {
	for k := range kind(12) {
		f.Add(byte(k), []byte(nil))
		f.Add(byte(k), []byte{0, 0, 0, 0, 1, 0, 0, 0, 0})
		f.Add(byte(k), []byte(`{"Members":[{},{}],"Rank":1}`))
	}
	f.Add(byte(kindGathered), append(where{0, 0}.encode(), append([]byte{0}, encodeAll([][]byte{{1}, nil})...)...))
	f.Fuzz(func(t *testing.T, k byte, p []byte) {
		cfg := config("127.0.0.1:1", 0, 2)
		if err := cfg.complete(); err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Skip(err) // out of ports
		}
		h := &hub{cfg: &cfg, ln: ln, log: quiet, done: make(chan struct{}), complete: make(chan struct{}), rounds: map[where]*round{}}
		for r := range 2 {
			m := cfg.member()
			m.Rank = r
			h.seats = append(h.seats, &seat{member: m, conn: &conn{c: canned{}}, queue: make(chan frame, maxQueue)})
		}
		for range 2 {
			if h.handle(h.seats[1], kind(k), p) != nil {
				h.lose(h.seats[1], "was cut off")
			}
		}
		h.close()

		s := &Session{cfg: cfg, conn: &conn{c: canned{}}, welcomed: make(chan welcome, 1), failed: make(chan struct{}), ended: make(chan struct{}),
			waiting: map[where]chan answer{}, watchers: map[int]func(error){}}
		c := make(chan answer, 1)
		s.waiting[where{0, 0}] = c
		if err := s.handle(kind(k), p); err != nil {
			s.lose(err.Error())
		}
		select {
		case w := <-s.welcomed:
			if w.Error == "" && len(w.Members) != cfg.Size {
				t.Error("a welcome of too few")
			}
		case a := <-c:
			if a.err == nil && len(a.msgs) != cfg.Size {
				t.Errorf("%d messages", len(a.msgs))
			}
		default:
		}
		s.shut()
	})
}
