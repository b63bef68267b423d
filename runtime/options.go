package runtime

import (
	"log/slog"
	"time"

	"github.com/moegen/moegen/runtime/symm"
)

// Option changes how a dispatcher is built. All ranks of a group give the same
// options.
type Option func(*options)

type options struct {
	transport Transport // "" chooses
	timeout   time.Duration
	provider  symm.Provider
	logger    *slog.Logger
	epoch     uint32
	observe   func(Event) // nil without an observer
}

// WithTransport asks for one transport instead of the first that works; if it
// cannot be had, building the dispatcher fails.
func WithTransport(t Transport) Option { return func(o *options) { o.transport = t } }

// WithTimeout replaces the spec's timeout: how long a kernel waits for a peer
// before it fails the group.
func WithTimeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// WithProvider replaces the way in which symmetric memory is made.
func WithProvider(p symm.Provider) Option { return func(o *options) { o.provider = p } }

// WithLogger replaces slog's default logger.
func WithLogger(l *slog.Logger) Option { return func(o *options) { o.logger = l } }

// WithFirstEpoch starts all epochs at e instead of 0, on all ranks: for tests
// of what happens when they wrap.
func WithFirstEpoch(e uint32) Option { return func(o *options) { o.epoch = e } }
