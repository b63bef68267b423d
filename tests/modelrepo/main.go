// Command engine runs a layer of each of this repository's models on whatever
// there is: GPUs if there are enough, else emulated ones.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"example.com/engine/models/mixtral-8x7b"
	"example.com/engine/models/qwen3"
	moert "github.com/moegen/moegen/runtime"
)

// model is what the engine needs of a model's package.
type model struct {
	name      string
	ranks     int
	hiddenDim int
	layer     func(ctx context.Context, group moert.Group, rank, tokens int) error
}

var models = []model{
	{"qwen3", qwen3.EPSize, qwen3.HiddenDim, qwen3.RunLayer},
	{"mixtral", mixtral.EPSize, mixtral.HiddenDim, mixtral.RunLayer},
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, m := range models {
		backend, err := run(ctx, m)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.name, err)
			os.Exit(1)
		}
		fmt.Printf("%s: a layer of %d elements on %d ranks (%s): ok\n", m.name, m.hiddenDim, m.ranks, backend)
	}
}

// run runs one layer of a model, each rank on a GPU of its own and with a number
// of tokens of its own.
func run(ctx context.Context, m model) (backend string, err error) {
	driver, err := moert.Open(moert.Backend{Devices: m.ranks})
	if err != nil {
		return "", err
	}
	defer driver.Close()
	group, err := moert.NewLocalGroup(driver.Devices()[:m.ranks]...)
	if err != nil {
		return "", err
	}
	return driver.Name(), group.Each(ctx, func(ctx context.Context, rank int) error {
		return m.layer(ctx, group, rank, 3+rank)
	})
}
