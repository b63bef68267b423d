package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progress shows how far something has come, on terminals only, and only once
// it has taken two seconds.
type progress struct {
	w     io.Writer // nil if it is not a terminal
	what  string
	start time.Time

	mu    sync.Mutex
	state string
	shown bool
	stop  chan struct{}
	gone  chan struct{}
}

const progressAfter = 2 * time.Second

func newProgress(w io.Writer, what string) *progress {
	p := &progress{what: what, start: time.Now(), stop: make(chan struct{}), gone: make(chan struct{})}
	f, ok := w.(*os.File)
	if !ok {
		close(p.gone)
		return p
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		close(p.gone)
		return p
	}
	p.w = w
	go p.show()
	return p
}

// step says how far it is.
func (p *progress) step(done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = fmt.Sprintf(" %d of %d", done, total)
}

// at is step for something with a name.
func (p *progress) at(done, total int, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = fmt.Sprintf(", %d of %d: %s", done+1, total, what)
}

func (p *progress) show() {
	defer close(p.gone)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		if since := time.Since(p.start); since >= progressAfter {
			p.mu.Lock()
			fmt.Fprintf(p.w, "\r\x1b[K%s%s (%s)", p.what, p.state, since.Round(time.Second))
			p.shown = true
			p.mu.Unlock()
		}
	}
}

// end takes the line away.
func (p *progress) end() {
	close(p.stop)
	<-p.gone
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
