package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// Time is what one operation took over replays, in microseconds.
type Time struct {
	Median float64 `json:"median_us"`
	P99    float64 `json:"p99_us"`
}

// enqueue puts operations of one rank on a stream, or into a graph.
type enqueue func(rank int, s driver.Stream) error

// graph captures what build enqueues on each rank, replays it and returns what
// one of its ops operations took.
func (b *bench) graph(ops, replays int, build enqueue) (Time, error) {
	times, err := b.replay(replays, build)
	if err != nil {
		return Time{}, err
	}
	return slowest(times, ops), nil
}

// warm is how many replays go before those that count.
const warm = 3

// replay captures what build enqueues on each rank and returns how long each
// rank's replays took.
func (b *bench) replay(replays int, build enqueue) (times [][]time.Duration, err error) {
	graphs, execs := make([]driver.Graph, len(b.members)), make([]driver.GraphExec, len(b.members))
	defer func() {
		for rank := range execs {
			if execs[rank] != nil {
				err = errors.Join(err, execs[rank].Close())
			}
			if graphs[rank] != nil {
				err = errors.Join(err, graphs[rank].Close())
			}
		}
	}()
	err = b.each(func(_ context.Context, rank int) error {
		s := b.members[rank].Stream
		if err := s.BeginCapture(); err != nil {
			return err
		}
		built := build(rank, s)
		var err error
		graphs[rank], err = s.EndCapture()
		if err = errors.Join(built, err); err != nil {
			return err
		}
		execs[rank], err = graphs[rank].Instantiate()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	return b.run(warm, replays, func(rank int, s driver.Stream) error { return execs[rank].Launch(s) })
}

// run enqueues something on each rank again and again, and returns how long each
// time took, but for the first ones.
func (b *bench) run(warm, runs int, f enqueue) ([][]time.Duration, error) {
	times := make([][]time.Duration, len(b.members))
	return times, b.each(func(_ context.Context, rank int) (err error) {
		s := b.members[rank].Stream
		var events []driver.Event
		defer func() {
			for _, e := range events {
				err = errors.Join(err, e.Close())
			}
		}()
		for range runs + 1 {
			e, err := s.Device().NewEvent()
			if err != nil {
				return err
			}
			events = append(events, e)
		}
		for i := range warm + runs {
			if i >= warm {
				if err := s.Record(events[i-warm]); err != nil {
					return err
				}
			}
			if err := f(rank, s); err != nil {
				return err
			}
		}
		if err := s.Record(events[runs]); err != nil {
			return err
		}
		if err := b.members[rank].Dispatcher.Synchronize(s); err != nil {
			return err
		}
		for i := range runs {
			took, err := events[i+1].Since(events[i])
			if err != nil {
				return err
			}
			times[rank] = append(times[rank], took)
		}
		return nil
	})
}

// slowest is what one of a replay's ops operations took on the rank that took
// longest.
func slowest(times [][]time.Duration, ops int) Time {
	all := slices.Clone(times[0])
	for _, rank := range times[1:] {
		for i, t := range rank {
			all[i] = max(all[i], t)
		}
	}
	slices.Sort(all)
	us := func(i int) float64 { return float64(all[i].Nanoseconds()) / 1e3 / float64(ops) }
	return Time{Median: us(len(all) / 2), P99: us((len(all)*99+99)/100 - 1)}
}

// repeat enqueues launches n times over.
func repeat(n int, s driver.Stream, launches ...launch) error {
	for range n {
		for _, l := range launches {
			if err := l.on(s); err != nil {
				return err
			}
		}
	}
	return nil
}
