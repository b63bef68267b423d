package rendezvous

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// hub is rank 0's part of a group: it listens, and everything goes through it.
type hub struct {
	cfg    *Config
	secret []byte
	ln     net.Listener
	log    *slog.Logger
	done   chan struct{} // closed by close
	served sync.WaitGroup

	mu        sync.Mutex
	seats     []*seat // by rank, nil until it has come
	complete  chan struct{}
	formed    bool         // welcomes are sent; nobody else is let in
	failed    bool         // they say that there is no group
	lost      error        // the rank that was lost while the group formed
	late      map[int]bool // ranks that came after that
	refused   []string
	rejected  uint64            // connections that did not become members
	strangers map[net.Conn]bool // connections that may still become members
	rounds    map[where]*round
	post      *post
	closed    bool
}

// seat is a member's place at the hub.
type seat struct {
	member Member
	conn   *conn
	queue  chan frame
	heard  time.Time
	opened int  // rounds, that are open
	left   bool // in order
	gone   bool
}

type frame struct {
	kind    kind
	payload []byte
}

const (
	// maxPending bounds the strangers that are listened to at a time.
	maxPending = 256
	// maxQueue is how many frames may wait for a rank that does not read.
	maxQueue = 256
	// sendLimit is how long it may take to write a frame.
	sendLimit = 10 * time.Second
)

// listen starts the hub. It ends with close.
func listen(ctx context.Context, cfg *Config, secret []byte, loopback bool) (*hub, error) {
	ln, err := bind(ctx, cfg, loopback)
	if err != nil {
		return nil, err
	}
	h := &hub{cfg: cfg, secret: secret, ln: ln, log: cfg.Logger, done: make(chan struct{}), seats: make([]*seat, cfg.Size),
		complete: make(chan struct{}), rounds: map[where]*round{}, strangers: map[net.Conn]bool{}}
	go h.accept()
	go h.form(ctx)
	return h, nil
}

// bind listens at the address, or on all interfaces where that is a name, which
// on its own host may well mean a loopback address, or an address of a service,
// which no interface has. Without a secret it listens on loopback or not at all.
func bind(ctx context.Context, cfg *Config, loopback bool) (net.Listener, error) {
	host, port, _ := net.SplitHostPort(cfg.Address)
	var lc net.ListenConfig
	ln, err := net.Listener(nil), error(nil)
	switch _, perr := netip.ParseAddr(host); {
	case loopback:
		if err := onLoopback(ctx, cfg.Address); err != nil {
			return nil, err
		}
		ln, err = lc.Listen(ctx, "tcp", cfg.Address)
	case perr == nil || host == "localhost":
		if ln, err = lc.Listen(ctx, "tcp", cfg.Address); errors.Is(err, syscall.EADDRNOTAVAIL) {
			ln, err = lc.Listen(ctx, "tcp", ":"+port)
		}
	default:
		ln, err = lc.Listen(ctx, "tcp", ":"+port)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w; something else listens there, another group perhaps: set %s to a free port on all ranks", err, AddressEnv)
	}
	if err != nil {
		return nil, fmt.Errorf("rank 0 cannot listen: %w", err)
	}
	return ln, nil
}

func hostOf(address string) string {
	host, _, _ := net.SplitHostPort(address)
	return host
}

func (h *hub) accept() {
	for {
		c, err := h.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, for example
			h.log.Warn("moegen rendezvous cannot accept", "err", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		h.mu.Lock()
		h.strangers[c] = true
		full := len(h.strangers) > maxPending
		if h.closed {
			c.Close()
		}
		h.mu.Unlock()
		if full {
			h.reject(c, errors.New("too many at a time"))
			continue
		}
		h.served.Go(func() { h.serve(c) })
	}
}

// reject closes a connection that has not become a member, and no more.
func (h *hub) reject(c net.Conn, why error) {
	c.Close()
	h.mu.Lock()
	delete(h.strangers, c)
	h.rejected++
	ended := h.closed
	h.mu.Unlock()
	if !ended {
		h.log.Warn("moegen rendezvous turned a connection away", "from", c.RemoteAddr().String(), "because", why.Error())
	}
}

// serve handles one connection to its end.
func (h *hub) serve(c net.Conn) {
	if err := c.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		h.reject(c, err)
		return
	}
	x, err := accepted(c, h.secret)
	if err != nil {
		h.reject(c, err)
		return
	}
	k, p, err := x.receive()
	if err == nil && k != kindHello {
		err = fmt.Errorf("frame %d before the hello", k)
	}
	var m Member
	if err == nil {
		err = json.Unmarshal(p, &m)
	}
	if err != nil {
		h.reject(c, err)
		return
	}
	s, err := h.admit(m, x)
	if err != nil {
		_ = x.send(kindRefused, []byte(err.Error()), time.Second) // it is refused either way
		h.reject(c, err)
		return
	}
	h.served.Go(func() { h.write(s) })
	h.read(s)
}

// admit gives a member its seat.
func (h *hub) admit(m Member, x *conn) (*seat, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	who := fmt.Sprintf("rank %d (%s, pid %d)", m.Rank, m.Host, m.PID)
	own := h.cfg
	var err error
	switch {
	case h.lost != nil:
		err = h.lost
		h.late[m.Rank] = true
	case h.closed || h.formed:
		err = fmt.Errorf("%s comes too late: the group has formed, or has failed to", who)
	case m.Group != own.Group:
		err = fmt.Errorf("%s belongs to group %q, and at %s is group %q", who, m.Group, own.Address, own.Group)
	case m.Generation != own.Generation:
		err = fmt.Errorf("%s is of generation %d, and the group at %s of generation %d", who, m.Generation, own.Address, own.Generation)
	case m.Rank < 0 || m.Rank >= own.Size:
		err = fmt.Errorf("%s is not in a group of %d, the size that rank 0 has been told", who, own.Size)
		h.refused = append(h.refused, err.Error())
	case h.seats[m.Rank] != nil:
		o := h.seats[m.Rank].member
		err = fmt.Errorf("%s comes second: rank %d is there already (%s, pid %d)", who, m.Rank, o.Host, o.PID)
		h.refused = append(h.refused, err.Error())
	}
	if err != nil {
		return nil, err
	}
	if err := x.c.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	x.limit = MaxMessage + 64
	s := &seat{member: m, conn: x, queue: make(chan frame, maxQueue), heard: time.Now()}
	h.seats[m.Rank] = s
	delete(h.strangers, x.c)
	if !slices.Contains(h.seats, nil) {
		close(h.complete)
	}
	return s, nil
}

// form waits for all ranks and then tells them all how it went.
func (h *hub) form(ctx context.Context) {
	go h.watch()
	select {
	case <-h.complete:
	case <-ctx.Done():
	case <-h.done:
		return
	}
	w := welcome{Members: make([]Member, h.cfg.Size)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.formed {
		return
	}
	h.formed = true
	var missing []int
	var here []Member
	for r, s := range h.seats {
		if s == nil {
			missing = append(missing, r)
		} else {
			w.Members[r], here = s.member, append(here, s.member)
		}
	}
	problems := append(differences(here), h.refused...)
	if len(problems) > 0 {
		w.Kind = "mismatch"
	}
	if missing != nil {
		problems = append([]string{fmt.Sprintf("%s did not come to %s before rank 0's deadline (%d connections were turned away)",
			ranks(missing), h.cfg.Address, h.rejected)}, problems...)
		w.Kind = "missing"
	}
	w.Error = joinProblems(problems)
	if h.failed = w.Error != ""; !h.failed {
		h.openPost(&w)
	}
	for r, s := range h.seats {
		if s == nil {
			continue
		}
		if h.post != nil {
			w.Ticket = []byte(h.post.tickets[r])
		}
		h.push(s, kindWelcome, encodeJSON(w))
	}
	h.ln.Close() // nobody else is expected
}

// openPost makes the way for descriptors, if all ranks are on one host.
func (h *hub) openPost(w *welcome) {
	for _, m := range w.Members {
		if m.HostID != w.Members[0].HostID {
			w.NoFDs = fmt.Sprintf("rank %d is on %s and rank 0 on %s", m.Rank, m.Host, w.Members[0].Host)
			return
		}
	}
	p, err := newPost(h.cfg.Size)
	if err != nil {
		w.NoFDs = err.Error()
		return
	}
	h.post, w.Socket = p, p.path
}

// close ends the hub. What is queued for the ranks still reaches them.
func (h *hub) close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	h.ln.Close()
	close(h.done)
	for c := range h.strangers {
		c.Close()
	}
	post := h.post
	h.mu.Unlock()
	if post != nil {
		post.close()
	}
	gone := make(chan struct{})
	go func() { h.served.Wait(); close(gone) }()
	select {
	case <-gone:
	case <-time.After(time.Second): // a rank that reads nothing, and has not all that was sent to it
	}
}
