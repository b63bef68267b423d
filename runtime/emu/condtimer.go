package emu

import (
	"sync"
	"time"
)

// condTimer is a condition variable whose wait can time out.
type condTimer struct {
	mu *sync.Mutex
	ch chan struct{}
}

func newCondTimer(mu *sync.Mutex) *condTimer {
	return &condTimer{mu, make(chan struct{}, 1<<10)}
}

// signal wakes one waiter. A signal that nobody waits for is remembered, so
// that waits can return early; callers look at their condition again.
func (c *condTimer) signal() {
	select {
	case c.ch <- struct{}{}:
	default:
	}
}

func (c *condTimer) broadcast() {
	for range 256 {
		c.signal()
	}
}

// wait releases the mutex until a signal or, if d > 0, until d has passed.
func (c *condTimer) wait(d time.Duration) {
	c.mu.Unlock()
	defer c.mu.Lock()
	if d <= 0 {
		<-c.ch
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.ch:
	case <-t.C:
	}
}
