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

	// Tokens are the counts of each rank, for one step after another, over and
	// over. A step with more than Capacity on some rank is a prefill, whose turn
	// comes among the eager steps and among the replays.
	Tokens   [][]int
	Steps    int // eager steps
	Replays  int // replays of one captured graph
	Layers   int // in each step
	Capacity int // most tokens a rank; 0 is the spec's max_tokens
	Seed     uint64
	Partials Partials
	Counts   Counts

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

// Counts says when the ranks' token counts travel.
type Counts int

const (
	// CountsBoth alternates from step to step; in graphs they travel with the
	// first dispatch.
	CountsBoth Counts = iota
	// CountsEarly sends them in a launch of their own.
	CountsEarly
	// CountsInBand sends them with the first dispatch.
	CountsInBand
)

// early says whether the counts of an eager step, or those of a graph, for
// which step is 0, travel early.
func (c *Config) early(step int) bool {
	return c.Counts == CountsEarly || c.Counts == CountsBoth && step%2 == 1
}

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
	limit := c.Capacity
	if c.Spec.MaxPrefillTokens > 0 {
		limit = c.Spec.MaxPrefillTokens
	}
	for _, counts := range c.Tokens {
		if len(counts) != c.Spec.EPSize {
			return fmt.Errorf("layer: %d token counts for ep_size %d", len(counts), c.Spec.EPSize)
		}
		for _, n := range counts {
			if n < 0 || n > limit {
				return fmt.Errorf("layer: %d tokens, allowed are 0 to %d", n, limit)
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

// prefill says whether a step of these counts runs outside graphs.
func (c *Config) prefill(counts []int) bool { return slices.Max(counts) > c.Capacity }

// exchanges is in how many exchanges a layer of a step of these counts travels.
func (c *Config) exchanges(counts []int) int {
	return max(1, (slices.Max(counts)+c.Program.MaxTokens-1)/c.Program.MaxTokens)
}

// capacity is the most tokens that a rank may bring to an exchange of a step of
// these counts.
func (c *Config) capacity(counts []int) int {
	if c.prefill(counts) {
		return c.Program.MaxTokens
	}
	return c.Capacity
}

// widest returns the largest capacity of any step, and the most exchanges that a
// layer of any step takes.
func (c *Config) widest() (capacity, exchanges int) {
	for _, counts := range c.Tokens {
		capacity, exchanges = max(capacity, c.capacity(counts)), max(exchanges, c.exchanges(counts))
	}
	return capacity, exchanges
}

// rows is how many rows the tensors of a rank's own tokens have.
func (c *Config) rows() int {
	if most := c.mostTokens(); most > c.Capacity {
		return window(most, c.Program.MaxPrefill())
	}
	return c.Capacity
}

// guard is how many rows past the last token are looked at.
const guard = 64

// window is how many rows of a tensor with room for rows are looked at, where
// used of them may hold tokens.
func window(used, rows int) int { return min(used+guard, rows) }
