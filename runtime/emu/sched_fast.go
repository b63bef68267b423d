package emu

import (
	"fmt"
	"strings"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// fastScheduler runs blocks on several workers. Blocks that can do something
// come first, in turn; blocks that were last seen to spin are polled when there are
// no others, and now and then, since what others do may be to wait for them. If
// all of them have been polled since anything last happened, the system stalls:
// workers then sleep between polls, and virtual time follows real time.
type fastScheduler struct {
	graphState
	ready   []task
	spin    []*block
	workers int
	idle    int
	busy    int // workers that run something from ready
	running int // workers that run anything
	polling bool
	burst   int // polls until the next sleep, while nothing happens
	turns   int // tasks taken since a spinning block was last polled in its turn
	stopped bool

	count    uint64 // progress
	lastMove time.Time
	stalled  bool
	lastTick time.Time
	backoff  time.Duration
	wakeup   *condTimer
}

const (
	minBackoff = 20 * time.Microsecond
	maxBackoff = time.Millisecond
	// maxTick bounds what one poll can add to virtual time, in case the whole
	// process was suspended.
	maxTick = 100 * time.Millisecond
	rounds  = 2
	// maxTurns is how many tasks are taken until a spinning block is polled though
	// others are ready.
	maxTurns = 256
)

func newFastScheduler(d *Driver) *fastScheduler {
	s := &fastScheduler{lastMove: time.Now(), backoff: minBackoff}
	s.graphState.init(d)
	s.graphState.push = s.add
	s.graphState.progress = s.moved
	s.wakeup = newCondTimer(&s.mu)
	return s
}

// add makes t runnable; mu is held.
func (s *fastScheduler) add(t task) {
	s.ready = append(s.ready, t)
	s.wake()
}

// wake gets another worker to look for work, if there is one to be had.
func (s *fastScheduler) wake() {
	if s.idle > 0 {
		s.wakeup.signal()
		return
	}
	if s.workers < s.d.cfg.Workers && !s.stopped {
		s.workers++
		go s.worker()
	}
}

// moved notes progress; mu is held.
func (s *fastScheduler) moved() {
	s.count++
	s.lastMove = time.Now()
	s.stalled = false
	s.backoff = minBackoff
}

// nudge notes that the host has changed memory, which kernels may wait for.
func (s *fastScheduler) nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved()
	if len(s.spin) > 0 {
		s.wake()
	}
}

func (s *fastScheduler) stop() {
	s.mu.Lock()
	s.stopped = true
	for s.workers > 0 {
		s.wakeup.broadcast()
		s.mu.Unlock()
		time.Sleep(100 * time.Microsecond)
		s.mu.Lock()
	}
	for _, dev := range s.d.devices {
		s.kill(dev, driver.CodeDeinitialized, "the driver was closed")
	}
	s.ready, s.spin = nil, nil
	s.mu.Unlock()
}

// worker executes tasks until the scheduler stops.
func (s *fastScheduler) worker() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.workers-- }()
	for !s.stopped {
		t, polled := s.take()
		switch {
		case t.n != nil:
			s.runNode(t.n)
		case t.b != nil:
			s.runBlock(t.b, polled)
		default:
			s.idle++
			s.wakeup.wait(0)
			s.idle--
		}
	}
}

// take chooses the next task. It may sleep, without the lock, before a poll.
func (s *fastScheduler) take() (t task, polled bool) {
	if s.turns++; s.turns >= maxTurns && len(s.spin) > 0 && s.spin[0].polled != s.count {
		s.turns = 0
		return s.takeSpinning(), true
	}
	if len(s.ready) > 0 {
		t := s.ready[0]
		s.ready[0] = task{}
		s.ready = s.ready[1:]
		if len(s.ready) > 0 || len(s.spin) > 0 && !s.polling {
			s.wake()
		}
		return t, false
	}
	if len(s.spin) == 0 || s.polling {
		return task{}, false
	}
	if s.spin[0].polled == s.count {
		// Everything that spins was polled since anything last happened (the
		// queue is in order). While others still work this is merely not worth
		// another look; otherwise it is a stall.
		if s.burst--; s.burst < 0 {
			s.polling = true
			s.tick()
			s.wakeup.wait(s.backoff)
			s.backoff = min(s.backoff*3/2, maxBackoff)
			s.polling = false
			s.burst = len(s.spin)
			if len(s.ready) > 0 || len(s.spin) == 0 || s.stopped {
				return s.again()
			}
		}
	}
	return s.takeSpinning(), true
}

func (s *fastScheduler) takeSpinning() task {
	b := s.spin[0]
	s.spin[0] = nil
	s.spin = s.spin[1:]
	return task{b: b}
}

func (s *fastScheduler) again() (task, bool) {
	if s.stopped {
		return task{}, false
	}
	return s.take()
}

// tick advances virtual time by the real time since the last tick of the same
// stall. A block that is being polled at the moment may turn out to progress,
// so its result is awaited first.
func (s *fastScheduler) tick() {
	if s.running > 0 || s.spin[0].polled != s.count {
		return
	}
	now := time.Now()
	if s.stalled {
		s.clock.Add(int64(min(now.Sub(s.lastTick), maxTick)))
	}
	s.stalled, s.lastTick = true, now
}

func (s *fastScheduler) runNode(n *node) {
	s.busy++
	s.running++
	s.mu.Unlock()
	err := n.run()
	s.mu.Lock()
	s.busy--
	s.running--
	s.ran(n, err)
}

func (s *fastScheduler) runBlock(b *block, polled bool) {
	if b.dead() {
		return
	}
	if !polled {
		s.busy++
	}
	s.running++
	start := s.count
	s.mu.Unlock()
	s.d.mem.use.RLock()
	if b.warps == nil {
		b.setup()
	}
	res, fault := b.run(rounds)
	s.d.mem.use.RUnlock()
	s.mu.Lock()
	s.running--
	if !polled {
		s.busy--
	}
	switch {
	case b.dead():
	case fault != nil:
		s.kill(b.g.dev, fault.code, fault.text)
	case res == blockDone:
		s.moved()
		s.endBlock(b)
	case res == blockMore:
		s.moved()
		s.add(task{b: b})
	default:
		// What happened while it was being polled may concern it.
		b.polled = start
		s.spin = append(s.spin, b)
	}
}

func (s *fastScheduler) fault(dev *Device, code driver.Code, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kill(dev, code, text)
}

func (s *fastScheduler) wait(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n.done {
		return
	}
	limit := s.d.cfg.StallLimit
	if limit > 0 {
		s.lastMove = time.Now()
		t := time.NewTicker(max(limit/8, time.Millisecond))
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			defer t.Stop()
			for {
				select {
				case <-stop:
					return
				case <-t.C:
					s.checkStall(limit)
				}
			}
		}()
	}
	for !n.done {
		s.endCond.Wait()
	}
}

// checkStall kills the devices on which something waits if nothing has moved
// for so long.
func (s *fastScheduler) checkStall(limit time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy > 0 || len(s.ready) > 0 || time.Since(s.lastMove) < limit {
		return
	}
	blocks := append([]*block(nil), s.spin...)
	lines, hit := s.stallReport(blocks)
	if len(hit) == 0 {
		return
	}
	text := fmt.Sprintf("nothing has made progress for %v:\n\t%s", limit, strings.Join(lines, "\n\t"))
	for _, dev := range s.d.devices {
		if hit[dev] {
			s.kill(dev, codeLaunchTimeout, text)
		}
	}
}
