package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"slices"
	"strings"
	"sync"

	model "github.com/moegen/moegen/generated/deepseekv3ep2"
	moert "github.com/moegen/moegen/runtime"
)

// exporter is what stands between dispatchers and a library of metrics: it
// keeps those that there are, and reads them when it is scraped.
type exporter struct {
	mu   sync.Mutex
	open map[int]*moert.Dispatcher // by rank
}

func (x *exporter) observe(e moert.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch e.Kind {
	case moert.Formed:
		x.open[e.Dispatcher.Rank()] = e.Dispatcher
	case moert.Closed:
		delete(x.open, e.Dispatcher.Rank())
	case moert.Failed:
		var f *moert.FailedError
		if errors.As(e.Err, &f) {
			fmt.Println(f.Dump.Summary())
		}
	}
}

// scrape writes the counters as Prometheus reads them.
func (x *exporter) scrape() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var b strings.Builder
	for _, rank := range slices.Sorted(maps.Keys(x.open)) {
		c, err := x.open[rank].Counters()
		if err != nil {
			continue // the GPU does not answer: better none than old ones
		}
		for _, m := range []struct {
			name  string
			value uint64
		}{{"steps", c.Steps}, {"dispatches", c.Dispatches}, {"combines", c.Combines}, {"failures", c.Failures}} {
			fmt.Fprintf(&b, "moegen_%s_total{rank=\"%d\"} %d\n", m.name, rank, m.value)
		}
	}
	return b.String()
}

func ExampleWithObserver() {
	metrics := &exporter{open: map[int]*moert.Dispatcher{}}
	drv, err := moert.Open(moert.Backend{Devices: model.EPSize})
	if err != nil {
		log.Fatal(err)
	}
	group, err := moert.NewLocalGroup(drv.Devices()[:model.EPSize]...)
	if err != nil {
		log.Fatal(err)
	}
	ds := make([]*model.Dispatcher, model.EPSize)
	err = group.Each(context.Background(), func(ctx context.Context, rank int) (err error) {
		if ds[rank], err = model.NewDispatcher(ctx, group, rank, moert.WithObserver(metrics.observe)); err != nil {
			return err
		}
		return step(ds[rank], rank)
	})
	fmt.Println("done:", err)
	fmt.Print(metrics.scrape())
	for _, d := range ds {
		d.Close()
	}
	fmt.Println(len(metrics.open), "open")
	// Output:
	// done: <nil>
	// moegen_steps_total{rank="0"} 1
	// moegen_dispatches_total{rank="0"} 1
	// moegen_combines_total{rank="0"} 1
	// moegen_failures_total{rank="0"} 0
	// moegen_steps_total{rank="1"} 1
	// moegen_dispatches_total{rank="1"} 1
	// moegen_combines_total{rank="1"} 1
	// moegen_failures_total{rank="1"} 0
	// 0 open
}
