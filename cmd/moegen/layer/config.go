package layer

import (
	"fmt"
	"slices"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// Config says what to run.
type Config struct {
	Spec    *spec.Spec
	Program *moert.Program  // of Spec
	Devices []driver.Device // of each rank
	Share   bool            // ranks may share a device
	// Joined, if set, is the group of which this process is one rank: it runs
	// that rank alone, on the group's device, and Devices is ignored. All
	// processes run the same Config, and all get the whole Result.
	Joined *moert.ProcessGroup
	// Transport is the one to use; "" takes the first that works.
	Transport moert.Transport

	Tokens   [][]int // counts of each rank, for one step after another, over and over
	Steps    int     // eager steps
	Replays  int     // replays of one captured graph
	Layers   int     // in each step
	Capacity int     // most tokens a rank; 0 is the spec's max_tokens
	Seed     uint64
	Partials Partials

	// Keep holds on to outputs, for Compare.
	Keep    bool
	Options []moert.Option
	// Progress, if set, is called after every step.
	Progress func(done, total int)
}

// Partials says where the experts write.
type Partials int

const (
	// PartialsBoth alternates from layer to layer.
	PartialsBoth Partials = iota
	// PartialsBuffer uses the dispatcher's own buffer: no copy.
	PartialsBuffer
	// PartialsOwn uses a buffer of the caller's: Combine copies it.
	PartialsOwn
)

// ownPartial says whether the layer's experts write to the caller's buffer.
func (c *Config) ownPartial(layer int) bool {
	return c.Partials == PartialsOwn || c.Partials == PartialsBoth && layer%2 == 1
}

func (c *Config) check() error {
	switch {
	case c.Spec == nil || c.Program == nil:
		return fmt.Errorf("layer: no spec or no program")
	case c.Joined != nil && c.Keep:
		return fmt.Errorf("layer: no process has all ranks' outputs to keep")
	case c.Joined != nil:
		d, err := c.Joined.Device(c.Joined.Rank())
		if err != nil {
			return err
		}
		c.Devices = []driver.Device{d}
	}
	switch {
	case c.Joined == nil && len(c.Devices) != c.Spec.EPSize:
		return fmt.Errorf("layer: %d devices for ep_size %d", len(c.Devices), c.Spec.EPSize)
	case c.Layers < 1:
		return fmt.Errorf("layer: %d layers", c.Layers)
	case len(c.Tokens) == 0:
		return fmt.Errorf("layer: no token counts")
	}
	if c.Capacity == 0 {
		c.Capacity = c.Spec.MaxTokens
	}
	for _, counts := range c.Tokens {
		if len(counts) != c.Spec.EPSize {
			return fmt.Errorf("layer: %d token counts for ep_size %d", len(counts), c.Spec.EPSize)
		}
		for _, n := range counts {
			if n < 0 || n > c.Capacity {
				return fmt.Errorf("layer: %d tokens, allowed are 0 to %d", n, c.Capacity)
			}
		}
	}
	return nil
}

// mostTokens is the most that a rank brings to any step.
func (c *Config) mostTokens() int {
	most := 0
	for _, counts := range c.Tokens {
		most = max(most, slices.Max(counts))
	}
	return most
}

// guard is how many rows past the last token are looked at.
const guard = 64

// window is how many rows of a tensor with room for rows are looked at, where
// used of them may hold tokens.
func window(used, rows int) int { return min(used+guard, rows) }
