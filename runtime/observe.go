package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// Event is something that happened to a dispatcher, other than steps. An
// observer gets it at once, in the goroutine in which it happened, and may call
// Counters, Dump, Status and what describes the dispatcher, and nothing else of
// it. What collects metrics keeps the dispatcher from Formed to Closed, and
// calls Counters whenever it is scraped.
type Event struct {
	Kind       EventKind
	Dispatcher *Dispatcher
	// Err is what was noticed, of Failed and StepFailed: a *FailedError, with its
	// Dump, a *RankError or a *StepError.
	Err error
}

// EventKind is what happened.
type EventKind string

const (
	Formed     EventKind = "formed"      // the dispatcher is ready, on all ranks
	StepFailed EventKind = "step failed" // a step failed, and no more than the step
	Failed     EventKind = "failed"      // the group failed; the dispatcher works no more
	Closed     EventKind = "closed"      // the dispatcher is about to be closed: the last moment for Counters
)

// WithObserver has f called with the dispatcher's events.
func WithObserver(f func(Event)) Option { return func(o *options) { o.observe = f } }

func (d *Dispatcher) tell(kind EventKind, err error) {
	if d.observe != nil {
		d.observe(Event{kind, d, err})
	}
}

// formed tells of a dispatcher that is ready: once a process at level Info, and
// for the other ranks at level Debug.
func (d *Dispatcher) formed() {
	level := slog.LevelInfo
	if _, all := d.group.(*LocalGroup); all && d.rank != 0 {
		level = slog.LevelDebug
	}
	d.log.Log(context.Background(), level, "moegen dispatcher", "model", d.prog.Name, "rank", d.rank, "ranks", d.prog.Ranks, "gpu", d.dev.Info().Name,
		"transport", string(d.Transport()), "because", d.why, "refused", joinRefusals(d.refusals), "memory", d.mem.Provider, "kernels", d.image)
	d.tell(Formed, nil)
}

// whyTransport says why the transport is what it is, beside the refusals.
func whyTransport(p *Program, asked Transport, by string) string {
	switch {
	case p.Ranks == 1:
		return "there is one rank"
	case asked != "":
		return by + " asks for it"
	}
	return fmt.Sprintf("the first of %v that all ranks can use", p.Transports)
}

// fail ends the dispatcher's use, and tells of it once.
func (d *Dispatcher) fail(err error) {
	first := d.failed == nil
	d.failed = err
	if !first {
		return
	}
	d.tally.failures.Add(1)
	text := err.Error()
	d.failure.Store(&text)
	d.row.roster.failed(fmt.Sprintf("rank %d: %s", d.rank, text))
	var f *FailedError
	switch {
	case errors.As(err, &f):
		if f.Timeout() {
			d.tally.timeouts.Add(1)
		}
		d.logFailure(f)
	default: // the group's own end, of which it has told
		d.log.Debug("moegen dispatcher failed", "model", d.prog.Name, "rank", d.rank, "err", text)
	}
	d.tell(Failed, err)
}

// logFailure adds a dump to what kernels have told, and logs both. One rank of a
// process takes the dump, for all.
func (d *Dispatcher) logFailure(f *FailedError) {
	args := []any{"model", d.prog.Name, "rank", d.rank, "transport", string(d.transport), "err", f.Error()}
	if !judged(d.dev.Driver()) {
		d.row.once.Do(func() {
			d.row.dump = d.Dump()
			args = append(args, "dump", d.row.dump.String())
		})
		f.Dump = d.row.dump
		args = append(args, "behind", f.Dump.Summary())
	}
	d.log.Error("moegen dispatcher failed", args...)
}

// judged reports whether the driver takes copies beside running kernels for
// races, and lets the world go on at each: what nobody asked for must not be
// what it judges.
func judged(drv any) bool {
	j, ok := drv.(interface{ Judges() bool })
	return ok && j.Judges()
}

// stepFailed tells of a step's failure that the caller is about to hear of.
func (d *Dispatcher) stepFailed(err error) {
	d.tally.stepErrors.Add(1)
	d.log.Warn("moegen step failed", "model", d.prog.Name, "rank", d.rank, "err", err.Error())
	d.tell(StepFailed, err)
}
