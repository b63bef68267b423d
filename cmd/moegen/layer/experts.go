package layer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
	"github.com/moegen/moegen/templates"
)

// experts launches one rank's demonstration experts.
type experts struct {
	prog         *moert.Program
	module       driver.Module
	kernel       driver.Function
	image        string
	first, count int
	config       driver.LaunchConfig
}

// expertThreads is the kernel's launch bound, expertBlocks enough blocks to
// fill a GPU: each takes many rows.
const (
	expertThreads = 256
	expertBlocks  = 264
)

// loadExperts loads the kernel for steps of up to capacity tokens a rank.
func loadExperts(ctx context.Context, d driver.Device, s *spec.Spec, p *moert.Program, rank, capacity int) (*experts, error) {
	header, err := gen.CHeader(s, "moe")
	if err != nil {
		return nil, fmt.Errorf("experts: %w", err)
	}
	module, image, err := moert.LoadSource(ctx, d, "experts.cu", templates.Experts(header), templates.ExpertsPTX)
	if err != nil {
		return nil, fmt.Errorf("experts: %w", err)
	}
	kernel, err := module.Function(fmt.Sprintf("moegen_experts_%s_%s", p.Payload, p.Wire))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("experts: %w", err), module.Unload())
	}
	e := &experts{prog: p, module: module, kernel: kernel, image: image, config: driver.LaunchConfig{
		Grid:  driver.Dim3{X: min(expertBlocks, p.Ranks*capacity)},
		Block: driver.Dim3{X: expertThreads},
	}}
	e.first, e.count = Experts(s).LocalExperts(rank)
	return e, nil
}

// launch enqueues the experts on what was gathered.
func (e *experts) launch(s driver.Stream, g moert.Gathered, partial moert.Tensor) error {
	var b []byte
	for _, p := range []driver.DevicePtr{g.Step.Total, g.Hidden.Ptr, g.Scales.Ptr, g.Routing.Ptr, g.Probs.Ptr, partial.Ptr} {
		b = binary.LittleEndian.AppendUint64(b, uint64(p))
	}
	// The pointers come first, so everything lies at its natural alignment.
	p := e.prog
	scaleBits := p.Scale.Bits()
	if p.Scale == moert.UE8M0 {
		scaleBits = 0
	}
	for _, v := range []int{p.HiddenDim, p.TopK, p.Routing.Bits(), p.Probs.Bits(), scaleBits, p.ScaleBlock, e.first, e.count} {
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return s.Launch(e.kernel, e.config, b)
}
