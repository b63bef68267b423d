package rendezvous

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// magic starts every connection. It changes with the handshake or the framing;
// everything else is covered by the Protocol in the hello.
const magic = "moegen rendezvous 1\n"

const (
	nonceSize = 32
	macSize   = sha256.Size

	// MaxMessage is the most bytes that one rank can give to AllGather.
	MaxMessage = 256 << 10
	// maxFrame bounds what an authenticated peer can make a rank allocate.
	maxFrame = MaxSize*(4+MaxMessage) + 64
	// maxHello bounds the first frame.
	maxHello = 64 << 10
)

// errForeign means that the other side speaks something else.
var errForeign = errors.New("what is at the other end is no moegen rendezvous, or one of another version")

// conn is an authenticated connection.
type conn struct {
	c        net.Conn
	r        *bufio.Reader
	in, out  cipher.AEAD
	received uint64 // frames; the reader's own
	limit    int

	mu   sync.Mutex // serialises writers
	sent uint64

	bytesIn, bytesOut atomic.Uint64
}

// kind is a frame's first byte.
type kind byte

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// dialed does the handshake of the side that dialed. The caller has set a deadline.
func dialed(c net.Conn, secret []byte) (*conn, error) {
	mine := make([]byte, nonceSize)
	rand.Read(mine) // never fails
	if _, err := c.Write(append([]byte(magic), mine...)); err != nil {
		return nil, err
	}
	answer := make([]byte, len(magic)+nonceSize+macSize)
	// In two parts: whatever else is there may never send that much.
	if _, err := io.ReadFull(c, answer[:len(magic)]); err != nil {
		return nil, fmt.Errorf("%w (%w)", errForeign, err)
	}
	if string(answer[:len(magic)]) != magic {
		return nil, errForeign
	}
	if _, err := io.ReadFull(c, answer[len(magic):]); err != nil {
		return nil, fmt.Errorf("%w (%w)", errForeign, err)
	}
	theirs, proof := answer[len(magic):][:nonceSize], answer[len(magic)+nonceSize:]
	if !hmac.Equal(proof, mac(secret, []byte("listener"), mine, theirs)) {
		return nil, ErrSecret
	}
	if _, err := c.Write(mac(secret, []byte("dialer"), mine, theirs)); err != nil {
		return nil, err
	}
	return newConn(c, secret, mine, theirs, "to dialer", "to listener")
}

// accepted does the handshake of the side that listens.
func accepted(c net.Conn, secret []byte) (*conn, error) {
	hello := make([]byte, len(magic)+nonceSize)
	if _, err := io.ReadFull(c, hello[:len(magic)]); err != nil {
		return nil, err
	}
	if string(hello[:len(magic)]) != magic {
		return nil, errForeign
	}
	if _, err := io.ReadFull(c, hello[len(magic):]); err != nil {
		return nil, err
	}
	theirs, mine := hello[len(magic):], make([]byte, nonceSize)
	rand.Read(mine)
	proof := mac(secret, []byte("listener"), theirs, mine)
	if _, err := c.Write(append(append([]byte(magic), mine...), proof...)); err != nil {
		return nil, err
	}
	answer := make([]byte, macSize)
	if _, err := io.ReadFull(c, answer); err != nil {
		return nil, fmt.Errorf("%w, or it went away (%w)", ErrSecret, err)
	}
	if !hmac.Equal(answer, mac(secret, []byte("dialer"), theirs, mine)) {
		return nil, ErrSecret
	}
	return newConn(c, secret, theirs, mine, "to listener", "to dialer")
}

func newConn(c net.Conn, secret, dialer, listener []byte, in, out string) (*conn, error) {
	seal := func(direction string) (cipher.AEAD, error) {
		b, err := aes.NewCipher(mac(secret, []byte(direction), dialer, listener))
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(b)
	}
	x := &conn{c: c, r: bufio.NewReader(c), limit: maxHello}
	var err error
	if x.in, err = seal(in); err == nil {
		x.out, err = seal(out)
	}
	return x, err
}

// count is a frame's nonce: keys are fresh for each connection and direction.
func count(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 4, 12), n) }

// send writes one frame: a length, then that many bytes, which are the kind and
// the payload under GCM, with the length as associated data.
func (x *conn) send(k kind, payload []byte, limit time.Duration) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	text := append([]byte{byte(k)}, payload...)
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(text)+x.out.Overhead()))
	frame = x.out.Seal(frame, count(x.sent), text, frame[:4])
	x.sent++
	if err := x.c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	n, err := x.c.Write(frame)
	x.bytesOut.Add(uint64(n))
	return err
}

// receive reads one frame.
func (x *conn) receive() (kind, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(x.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(head[:]))
	if n < 1+x.in.Overhead() || n > x.limit {
		return 0, nil, fmt.Errorf("a frame of %d bytes, allowed are %d to %d", n, 1+x.in.Overhead(), x.limit)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(x.r, frame); err != nil {
		return 0, nil, err
	}
	text, err := x.in.Open(frame[:0], count(x.received), frame, head[:])
	if err != nil {
		return 0, nil, errors.New("a frame that was not sealed by the other side")
	}
	x.received++
	x.bytesIn.Add(uint64(4 + n))
	return kind(text[0]), text[1:], nil
}

func (x *conn) close() error { return x.c.Close() }
