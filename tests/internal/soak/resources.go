package soak

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// Resources is what a process has taken.
type Resources struct {
	Free        []uint64 `json:"free_bytes"` // of each device
	Goroutines  int      `json:"goroutines"`
	Heap        uint64   `json:"go_heap_bytes"` // after a collection
	Descriptors int      `json:"descriptors"`
}

// heapSlack is what Go's heap may grow by: pools, and the runtime's own.
const heapSlack = 2 << 20

func resources(devices []driver.Device) (Resources, error) {
	var r Resources
	for _, d := range devices {
		free, _, err := d.MemInfo()
		if err != nil {
			return r, err
		}
		r.Free = append(r.Free, free)
	}
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.Heap, r.Goroutines = m.HeapAlloc, runtime.NumGoroutine()
	open, err := os.ReadDir("/proc/self/fd")
	r.Descriptors = len(open)
	return r, err
}

// compare looks again at what there was before, for a moment: goroutines may
// still be on their way out.
func (s *soak) compare(before Resources) error {
	var leaks []string
	for range 20 {
		after, err := resources(s.Devices)
		if err != nil {
			return err
		}
		s.report.After = after
		if leaks = s.leaks(before, after); leaks == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	for _, l := range leaks {
		s.fault("%s", l)
	}
	return nil
}

func (s *soak) leaks(before, after Resources) []string {
	var all []string
	for i := range before.Free {
		if after.Free[i]+s.MemorySlack < before.Free[i] {
			all = append(all, fmt.Sprintf("leak: rank %d's device has %d bytes less, %d captures later", i, before.Free[i]-after.Free[i], s.report.Captures))
		}
	}
	if after.Goroutines > before.Goroutines {
		all = append(all, fmt.Sprintf("leak: %d goroutines, before %d", after.Goroutines, before.Goroutines))
	}
	if after.Heap > before.Heap+heapSlack {
		all = append(all, fmt.Sprintf("leak: %d bytes in Go's heap, before %d", after.Heap, before.Heap))
	}
	if after.Descriptors > before.Descriptors {
		all = append(all, fmt.Sprintf("leak: %d file descriptors, before %d", after.Descriptors, before.Descriptors))
	}
	return all
}

// Drift is how long steps of a kind took at the start and at the end: medians in
// microseconds, from the host's first call to the end on all ranks.
type Drift struct {
	Kind  string  `json:"kind"`
	First float64 `json:"first_tenth_us"`
	Last  float64 `json:"last_tenth_us"`
}

// kept is how many times of a kind are kept of either tenth.
const kept = 4096

// keep keeps a step's time if it is in the first or the last tenth of the run.
func (s *soak) keep(kind int, at float64, took time.Duration) {
	part := 0
	switch {
	case at > 0.9:
		part = 1
	case at > 0.1:
		return
	}
	if times := &s.times[part][kind]; len(*times) < kept {
		*times = append(*times, took)
	}
}

func (s *soak) drift() []Drift {
	var all []Drift
	for kind, name := range kindNames {
		d := Drift{Kind: name}
		for part, to := range []*float64{&d.First, &d.Last} {
			if times := s.times[part][kind]; len(times) > 0 {
				slices.Sort(times)
				*to = float64(times[len(times)/2].Nanoseconds()) / 1e3
			}
		}
		all = append(all, d)
	}
	return all
}
