package rendezvous

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

const testToken = "a secret for tests only"

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// freeAddress is a loopback address at which nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// privateDir gives the test a runtime directory of its own.
func privateDir(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "moegen") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv(DirEnv, dir)
}

func config(address string, rank, size int) Config {
	return Config{Place: Place{Rank: rank, Size: size, Address: address, Group: "test"}, Token: testToken, Logger: quiet,
		Heartbeat: 20 * time.Millisecond, Silence: 5 * time.Second}
}

// joinAll joins size ranks of this process; change may change their configurations.
func joinAll(t testing.TB, limit time.Duration, size int, change func(rank int, c *Config)) ([]*Session, []error) {
	t.Helper()
	privateDir(t)
	address := freeAddress(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	sessions, errs := make([]*Session, size), make([]error, size)
	var wg sync.WaitGroup
	for r := range size {
		c := config(address, r, size)
		if change != nil {
			change(r, &c)
		}
		if c.Size == 0 {
			continue // the test leaves this rank out
		}
		wg.Go(func() {
			if sessions[r], errs[r] = Join(ctx, c, os.Getenv); errs[r] == nil {
				t.Cleanup(sessions[r].Close)
			}
		})
	}
	wg.Wait()
	return sessions, errs
}

func mustJoin(t testing.TB, size int, change func(rank int, c *Config)) []*Session {
	t.Helper()
	sessions, errs := joinAll(t, time.Minute, size, change)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return sessions
}

// each calls f for every session at the same time.
func each(sessions []*Session, f func(s *Session) error) []error {
	errs := make([]error, len(sessions))
	var wg sync.WaitGroup
	for i, s := range sessions {
		if s != nil {
			wg.Go(func() { errs[i] = f(s) })
		}
	}
	wg.Wait()
	return errs
}

// gathers checks that one AllGather works.
func gathers(t testing.TB, sessions []*Session) {
	t.Helper()
	for r, err := range each(sessions, func(s *Session) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		all, err := s.AllGather(ctx, fmt.Appendf(nil, "from %d", s.Rank()))
		if err != nil {
			return err
		}
		for r, m := range all {
			if string(m) != fmt.Sprintf("from %d", r) {
				return fmt.Errorf("rank %d's message is %q", r, m)
			}
		}
		return nil
	}) {
		if err != nil {
			t.Fatalf("rank %d: %v", r, err)
		}
	}
}
