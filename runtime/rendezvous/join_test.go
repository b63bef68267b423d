package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestJoin(t *testing.T) {
	for _, size := range []int{1, 2, 9} {
		sessions := mustJoin(t, size, func(rank int, c *Config) { c.Data = fmt.Appendf(nil, "data %d", rank) })
		for range 3 {
			gathers(t, sessions)
		}
		for r, s := range sessions {
			if s.Rank() != r || s.Size() != size || s.NoFDs() != "" {
				t.Errorf("rank %d of %d, descriptors: %q", s.Rank(), s.Size(), s.NoFDs())
			}
			for peer, m := range s.Members() {
				if m.Rank != peer || m.PID != os.Getpid() || string(m.Data) != fmt.Sprintf("data %d", peer) {
					t.Errorf("rank %d knows %+v as rank %d", r, m, peer)
				}
			}
		}
		for r, s := range sessions {
			s.Close()
			s.Close()
			if _, err := s.AllGather(context.Background(), nil); err == nil || r == 0 && !errors.Is(err, ErrClosed) {
				t.Errorf("rank %d after Close: %v", r, err)
			}
		}
	}
}

// TestLateListener: ranks may start in any order.
func TestLateListener(t *testing.T) {
	sessions := mustJoin(t, 3, func(rank int, c *Config) {
		if rank == 0 {
			time.Sleep(300 * time.Millisecond) // the others dial already
		}
	})
	gathers(t, sessions)
}

// TestRefused: what keeps a group from forming is an error on every rank, and
// the errors say who and why.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(rank int, c *Config)
		want   error
		says   []string // on every rank that is there
	}{
		{"missing", func(r int, c *Config) {
			if r == 1 {
				c.Size = 0
			}
		}, ErrMissing, []string{"rank 1 did not come"}},
		{"spec", func(r int, c *Config) { c.Same = map[string]string{"spec": []string{"a", "a", "b"}[r], "plan": "p"} },
			ErrMismatch, []string{"rank 2", `spec "b"`, `rank 0 has "a"`}},
		{"spec missing", func(r int, c *Config) {
			if r > 0 {
				c.Same = map[string]string{"spec": "a"}
			}
		}, ErrMismatch, []string{"rank 1", "rank 2", "rank 0 has none"}},
		{"size", func(r int, c *Config) {
			if r == 1 {
				c.Size = 4
			}
		}, ErrMismatch, []string{"rank 1", "group size 4", "rank 0 has 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := joinAll(t, 1500*time.Millisecond, 3, c.change)
			for r, err := range errs {
				var cfg Config
				cfg.Size = 3
				if c.change(r, &cfg); cfg.Size == 0 {
					continue
				}
				if !errors.Is(err, c.want) {
					t.Errorf("rank %d: %v, want %v", r, err, c.want)
					continue
				}
				for _, text := range c.says {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("rank %d: %v does not say %q", r, err, text)
					}
				}
			}
		})
	}
}

// TestTurnedAway: a rank that does not belong learns why; the others have to
// do without it.
func TestTurnedAway(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(c *Config)
		want   string
	}{
		{"secret", func(c *Config) { c.Token = "quite another secret" }, "another secret"},
		{"group", func(c *Config) { c.Group = "else" }, `group "test"`},
		{"generation", func(c *Config) { c.Generation = 3 }, "of generation 3"},
		{"rank", func(c *Config) { c.Rank, c.Size = 7, 8 }, "not in a group of 3"},
		{"twice", func(c *Config) { c.Rank = 1 }, "comes second"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, errs := joinAll(t, time.Second, 3, func(rank int, cfg *Config) {
				if rank == 2 {
					time.Sleep(100 * time.Millisecond) // rank 1 is there
					c.change(cfg)
				}
			})
			if errs[2] == nil || !strings.Contains(errs[2].Error(), c.want) {
				t.Errorf("the stranger: %v, want %q", errs[2], c.want)
			}
			for r, err := range errs[:2] {
				if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "rank 2 did not come") {
					t.Errorf("rank %d: %v", r, err)
				}
			}
		})
	}
}

// TestImpatient: a rank that gives up ends the forming for all.
func TestImpatient(t *testing.T) {
	privateDir(t)
	address := freeAddress(t)
	errs := make(chan error, 2)
	for r, limit := range []time.Duration{20 * time.Second, 300 * time.Millisecond} {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			_, err := Join(ctx, config(address, r, 3), os.Getenv)
			errs <- err
		}()
	}
	for range 2 {
		select {
		case err := <-errs:
			text := fmt.Sprint(err)
			if !strings.Contains(text, "rank 2 did not come") && !strings.Contains(text, ") gave up while the group formed") {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a rank still waits")
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		change func(c *Config)
		want   string
	}{
		{func(c *Config) { c.Size = 0 }, "group of 0"},
		{func(c *Config) { c.Size = MaxSize + 1 }, "allowed are 1 to"},
		{func(c *Config) { c.Rank = 2 }, "rank 2"},
		{func(c *Config) { c.Rank = -1 }, "rank -1"},
		{func(c *Config) { c.Address = "host" }, "want host:port"},
		{func(c *Config) { c.Address = "host:70000" }, "want host:port"},
		{func(c *Config) { c.Address = ":123" }, "want host:port"},
		{func(c *Config) { c.Data = make([]byte, maxData+1) }, "Data"},
		{func(c *Config) { c.Silence = c.Heartbeat }, "four heartbeats"},
		{func(c *Config) { c.Token = "short" }, "at least 16"},
		{func(c *Config) { c.Token, c.Address = "", "203.0.113.7:29400" }, "there is no secret"},
		{func(c *Config) { c.Token, c.Address, c.Rank = "", "203.0.113.7:29400", 1 }, "there is no secret"},
	} {
		privateDir(t)
		cfg := config("127.0.0.1:1", 0, 2)
		c.change(&cfg)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := Join(ctx, cfg, func(string) string { return "" })
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// TestOccupied: what listens at the address already is no group.
func TestOccupied(t *testing.T) {
	a := mustJoin(t, 1, nil)[0]
	ln := freeAddress(t)
	c := config(ln, 0, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b, err := Join(ctx, c, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if a.hub.ln.Addr().String() == b.hub.ln.Addr().String() {
		t.Fatal("one address for two groups")
	}
	// A formed group has stopped listening: its address is free for the next.
	again, err := Join(ctx, c, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()

	// While one forms, it is not.
	c.Size = 2
	first := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := Join(ctx, c, os.Getenv)
		first <- err
	}()
	time.Sleep(200 * time.Millisecond)
	if _, err := Join(ctx, c, os.Getenv); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), AddressEnv) {
		t.Errorf("the second group at one address: %v", err)
	}
	if err := <-first; !errors.Is(err, ErrMissing) {
		t.Errorf("the first: %v", err)
	}
}

// TestBind: where rank 0 listens.
func TestBind(t *testing.T) {
	_, port, _ := net.SplitHostPort(freeAddress(t))
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host     string
		loopback bool
		want     string // "" for a refusal
	}{
		{"127.0.0.1", true, "127.0.0.1"}, {"localhost", true, "127.0.0.1"}, {"203.0.113.7", true, ""},
		{"127.0.0.1", false, "127.0.0.1"}, {"localhost", false, "127.0.0.1"},
		{name, false, "::"},          // it may mean loopback here and not elsewhere
		{"203.0.113.7", false, "::"}, // of a service, which no interface has
	} {
		cfg := config(net.JoinHostPort(c.host, port), 0, 2)
		ln, err := bind(t.Context(), &cfg, c.loopback)
		if c.want == "" || err != nil {
			if c.want != "" || err == nil || !strings.Contains(err.Error(), TokenEnv) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if got := hostOf(ln.Addr().String()); got != c.want && !(c.want == "::" && got == "0.0.0.0") && !(c.host == "localhost" && got == "::1") {
			t.Errorf("%+v: listens at %s", c, got)
		}
		ln.Close()
	}
}

// TestGivesUp: a rank that waits no longer ends the round for all, and those
// who come late have its error too; the next round is in step again.
func TestGivesUp(t *testing.T) {
	sessions := mustJoin(t, 3, nil)
	errs := each(sessions[:2], func(s *Session) error {
		limit := 10 * time.Second
		if s.Rank() == 1 {
			limit = 100 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_, err := s.AllGather(ctx, nil)
		return err
	})
	_, late := sessions[2].AllGather(context.Background(), nil)
	for r, err := range append(errs, late) {
		if err == nil || !strings.Contains(err.Error(), "rank 2 did not come while rank 1 waited") {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	if !errors.Is(errs[1], context.DeadlineExceeded) {
		t.Errorf("rank 1: %v is no DeadlineExceeded", errs[1])
	}
	gathers(t, sessions)
	if _, err := sessions[0].AllGather(context.Background(), make([]byte, MaxMessage+1)); err == nil {
		t.Error("a message that is too long was taken")
	}
}

func TestShareFDs(t *testing.T) {
	sessions := mustJoin(t, 3, nil)
	share := func(t *testing.T, without int) {
		t.Helper()
		for r, err := range each(sessions, func(s *Session) error {
			rd, wr, err := os.Pipe()
			if err != nil {
				return err
			}
			defer rd.Close()
			fmt.Fprintf(wr, "pipe of %d", s.Rank())
			wr.Close()
			fd := int(rd.Fd())
			if s.Rank() == without {
				fd = -1
			}
			fds, err := s.ShareFDs(t.Context(), fd, nil)
			if err != nil {
				return err
			}
			gathers := func() error { _, err := s.AllGather(t.Context(), nil); return err }
			for peer, fd := range fds {
				if peer == without {
					if fd != -1 {
						return fmt.Errorf("rank %d has descriptor %d", peer, fd)
					}
					continue
				}
				f := os.NewFile(uintptr(fd), "shared")
				if peer == (s.Rank()+1)%3 { // each pipe can be read once
					text, err := io.ReadAll(f)
					if err != nil || string(text) != fmt.Sprintf("pipe of %d", peer) {
						return fmt.Errorf("rank %d's descriptor holds %q, %v", peer, text, err)
					}
				}
				f.Close()
			}
			return gathers()
		}) {
			if err != nil {
				t.Fatalf("rank %d: %v", r, err)
			}
		}
	}
	share(t, -1)
	share(t, 1)

	before := openFDs(t)
	for range 20 {
		// Nobody gets a descriptor if one rank has none to give.
		for r, err := range each(sessions, func(s *Session) error {
			var mine error
			if s.Rank() == 2 {
				mine = errors.New("cannot export")
			}
			_, err := s.ShareFDs(t.Context(), 0, mine)
			return err
		}) {
			if err == nil || !strings.Contains(err.Error(), "rank 2: cannot export") {
				t.Fatalf("rank %d: %v", r, err)
			}
		}
	}
	share(t, -1)
	settlesAt(t, before)
	if files, _ := os.ReadDir(os.Getenv(DirEnv)); slices.ContainsFunc(files, func(f os.DirEntry) bool { return strings.HasSuffix(f.Name(), ".sock") }) {
		t.Error("the group has formed and its socket is still there")
	}
}

func openFDs(t testing.TB) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// settlesAt waits for what is closed in the background.
func settlesAt(t testing.TB, before int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); openFDs(t) > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d descriptors are open, before %d", openFDs(t), before)
		}
	}
}

// TestLeave: its channel is closed when all ranks have come, each in its time.
func TestLeave(t *testing.T) {
	sessions := mustJoin(t, 3, nil)
	var first, second []<-chan error
	for _, s := range sessions[:2] {
		first = append(first, s.Leave(time.Minute))
		second = append(second, s.Leave(time.Minute))
	}
	select {
	case err := <-first[0]:
		t.Fatalf("left without rank 2: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	first = append(first, sessions[2].Leave(time.Minute))
	for r, c := range first {
		if err, ok := <-c; ok {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	sessions[2].Close() // counts as having left everything
	for r, c := range second {
		if err, ok := <-c; ok {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	if err := <-sessions[0].Leave(50 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "rank 1 did not come") {
		t.Errorf("past its limit: %v", err)
	}
	if _, err := sessions[0].AllGather(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "has left the group") {
		t.Errorf("without rank 2: %v", err)
	}
	if err := sessions[0].Err(); err != nil {
		t.Errorf("leaving in order is a failure: %v", err)
	}
}

// TestNoLeaks: groups that form, fail to form and end leave nothing behind.
func TestNoLeaks(t *testing.T) {
	mustJoin(t, 2, nil) // what Go itself keeps is there now
	time.Sleep(50 * time.Millisecond)
	fds, routines := openFDs(t), runtime.NumGoroutine()
	for range 10 {
		sessions, errs := joinAll(t, 10*time.Second, 3, nil)
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		gathers(t, sessions)
		for _, s := range sessions {
			s.Close()
		}
		sessions, errs = joinAll(t, 10*time.Second, 3, func(r int, c *Config) { c.Same = map[string]string{"spec": fmt.Sprint(r)} })
		for r, err := range errs {
			if err == nil || sessions[r] != nil {
				t.Fatalf("rank %d of different specs has joined", r)
			}
		}
	}
	settlesAt(t, fds)
	for end := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > routines; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			var b strings.Builder
			pprof.Lookup("goroutine").WriteTo(&b, 1)
			t.Fatalf("%d goroutines, before %d:\n%s", runtime.NumGoroutine(), routines, b.String())
		}
	}
}
