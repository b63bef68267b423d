package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// The pauses between attempts to reach rank 0, which may not have started yet.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// connect gets this rank an authenticated connection to the hub, which on rank
// 0 it starts.
func (s *Session) connect(ctx context.Context, secret []byte, loopback bool) error {
	if s.cfg.Rank == 0 {
		h, err := listen(ctx, &s.cfg, secret, loopback)
		if err != nil {
			return err
		}
		near, far := net.Pipe()
		h.mu.Lock()
		h.strangers[far] = true
		h.mu.Unlock()
		h.served.Go(func() { h.serve(far) })
		s.hub = h
		if s.conn, err = handshake(near, secret, handshakeLimit); err != nil {
			h.close()
		}
		return err
	}
	if loopback {
		if err := onLoopback(ctx, s.cfg.Address); err != nil {
			return err
		}
	}
	s.cfg.stage("dialing")
	pause, attempts := firstPause, 0
	for {
		err := s.dial(ctx, secret)
		if err == nil || errors.Is(err, ErrSecret) {
			return err
		}
		attempts++
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w after %d attempts, the last of which ended with: %w", ErrMissing, context.Cause(ctx), attempts, err)
		case <-time.After(pause):
		}
		pause = min(pause*3/2, lastPause)
	}
}

func (s *Session) dial(ctx context.Context, secret []byte) error {
	d := net.Dialer{Timeout: handshakeLimit}
	c, err := d.DialContext(ctx, "tcp", s.cfg.Address)
	if err != nil {
		return err
	}
	s.cfg.stage("dialed")
	limit := handshakeLimit
	if deadline, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(deadline))
	}
	s.conn, err = handshake(c, secret, limit)
	if errors.Is(err, ErrSecret) {
		err = fmt.Errorf("%w than rank 0 has: %s or %s differ, or one of the two ranks has none", err, TokenEnv, TokenFileEnv)
	}
	return err
}

func handshake(c net.Conn, secret []byte, limit time.Duration) (*conn, error) {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	x, err := dialed(c, secret)
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return x, nil
}

// onLoopback refuses addresses of other hosts to ranks without a secret.
func onLoopback(ctx context.Context, address string) error {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", hostOf(address))
	if err != nil {
		return err
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() {
			return fmt.Errorf("%s is not loopback, and there is no secret: set %s (or %s) to the same random text on all ranks", address, TokenEnv, TokenFileEnv)
		}
	}
	return nil
}
