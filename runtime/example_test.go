package runtime_test

import (
	"context"
	"fmt"
	"log"

	model "github.com/moegen/moegen/generated/deepseekv3ep2"
	moert "github.com/moegen/moegen/runtime"
)

func Example() {
	drv, err := moert.Open(moert.Backend{Devices: model.EPSize}) // GPUs if there are enough, else the emulator
	if err != nil {
		log.Fatal(err)
	}
	group, err := moert.NewLocalGroup(drv.Devices()[:model.EPSize]...) // rank i on GPU i
	if err != nil {
		log.Fatal(err)
	}
	err = group.Each(context.Background(), func(ctx context.Context, rank int) error {
		d, err := model.NewDispatcher(ctx, group, rank) // allocates everything; all ranks agree on a transport
		if err != nil {
			return err
		}
		defer d.Close()
		return step(d, rank)
	})
	fmt.Println("done:", err)
	// Output: done: <nil>
}

// step sends 3 tokens of rank 0 and 4 of rank 1 through one layer.
func step(d *model.Dispatcher, rank int) error {
	hidden, err := d.NewHidden(model.MaxTokens)
	if err != nil {
		return err
	}
	probs, err := d.NewProbs(model.MaxTokens)
	if err != nil {
		return err
	}
	routing, err := d.NewRouting(model.MaxTokens)
	if err != nil {
		return err
	}
	stream, err := d.Core().NewStream()
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := d.NextStep(moert.HostTokens(3 + rank)); err != nil { // or DeviceTokens(ptr), read at replay
		return err
	}
	if _, err := d.Dispatch(stream, model.Local{Hidden: hidden, Probs: probs, Routing: routing}); err != nil {
		return err
	}
	// Your experts' kernels go here: from what Dispatch returned to d.PartialBuffer().
	if _, err := d.Combine(stream, d.PartialBuffer()); err != nil {
		return err
	}
	return d.Synchronize(stream)
}
