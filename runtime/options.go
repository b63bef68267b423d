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
	serial    bool
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

// WithSerialLaunch launches each kernel only when what is before it on its stream
// has ended. Without this option moegen's kernels use CUDA's programmatic dependent
// launch, captured in graphs too: they are launched when the blocks of what is
// before them have ended or have allowed it, wait by themselves, before their
// first access to memory, until it has ended altogether, and allow their
// successor while they wait for peers. It saves some of the time between two
// kernels; between two of moegen's, both occupy multiprocessors for a moment.
//
// Callers' kernels need not know of it. One that is itself launched
// programmatically behind moegen's has to execute griddepcontrol.wait before it
// touches what those write or read.
//
// Over NCCL, and where ranks share a GPU, all launches are serial.
func WithSerialLaunch() Option { return func(o *options) { o.serial = true } }

// WithFirstEpoch starts all epochs at e instead of 0, on all ranks: for tests
// of what happens when they wrap.
func WithFirstEpoch(e uint32) Option { return func(o *options) { o.epoch = e } }
