package gpu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// timer measures work of both ranks that runs at the same time.
type timer struct {
	*rig
	replays int
}

// graphs captures what build enqueues on each rank, replays it back to back on
// both and returns the microseconds of one of its ops operations: the median
// over replays of the slower rank's time.
//
// Replays follow each other without the host in between, and the first ones do
// not count: they bring the clocks up and absorb that the ranks start apart.
func (x *timer) graphs(ops int, build func(rank int, s driver.Stream) error) (us float64, err error) {
	execs := make([]driver.GraphExec, 2)
	graphs := make([]driver.Graph, 2)
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
	err = x.each(func(_ context.Context, rank int) error {
		s := x.streams[rank].Stream
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
		return 0, fmt.Errorf("capture: %w", err)
	}
	return x.runs(ops, func(rank int, s driver.Stream) error { return execs[rank].Launch(s) })
}

// runs is graphs for anything that enqueues on a stream.
func (x *timer) runs(ops int, run func(rank int, s driver.Stream) error) (float64, error) {
	const warm = 3
	times := make([][]time.Duration, 2)
	err := x.each(func(_ context.Context, rank int) (err error) {
		s := x.streams[rank].Stream
		var events []driver.Event
		defer func() {
			for _, e := range events {
				err = errors.Join(err, e.Close())
			}
		}()
		for range x.replays + 1 {
			e, err := s.Device().NewEvent()
			if err != nil {
				return err
			}
			events = append(events, e)
		}
		for i := range warm + x.replays {
			if i >= warm {
				if err := s.Record(events[i-warm]); err != nil {
					return err
				}
			}
			if err := run(rank, s); err != nil {
				return err
			}
		}
		if err := s.Record(events[x.replays]); err != nil {
			return err
		}
		if err := x.d[rank].Synchronize(s); err != nil {
			return err
		}
		for i := range x.replays {
			took, err := events[i+1].Since(events[i])
			if err != nil {
				return err
			}
			times[rank] = append(times[rank], took)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	slower := make([]time.Duration, x.replays)
	for i := range slower {
		slower[i] = max(times[0][i], times[1][i])
	}
	slices.Sort(slower)
	return float64(slower[len(slower)/2].Nanoseconds()) / 1e3 / float64(ops), nil
}

// repeat enqueues launches n times over.
func repeat(n int, launches ...launch) func(s driver.Stream) error {
	return func(s driver.Stream) error {
		for range n {
			for _, l := range launches {
				if err := l.on(s); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// single runs something once on both ranks and returns the microseconds of one
// of its ops operations. The faster rank counts: the other one only waited
// longer for it to start.
func (x *timer) single(ops int, run func(rank int, s driver.Stream) error) (float64, error) {
	var times [2]time.Duration
	err := x.each(func(_ context.Context, rank int) (err error) {
		s := x.streams[rank].Stream
		var events [2]driver.Event
		for i := range events {
			if events[i], err = s.Device().NewEvent(); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, events[i].Close()) }()
		}
		if err := errors.Join(s.Record(events[0]), run(rank, s), s.Record(events[1]), x.d[rank].Synchronize(s)); err != nil {
			return err
		}
		times[rank], err = events[1].Since(events[0])
		return err
	})
	return float64(min(times[0], times[1]).Nanoseconds()) / 1e3 / float64(ops), err
}
