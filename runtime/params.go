package runtime

import (
	"encoding/binary"

	"github.com/moegen/moegen/runtime/driver"
)

// params packs kernel parameters: each at its natural alignment, in
// declaration order, little-endian.
type params []byte

func (p *params) align(n int) {
	for len(*p)%n != 0 {
		*p = append(*p, 0)
	}
}

func (p *params) ptr(v driver.DevicePtr) {
	p.align(8)
	*p = binary.LittleEndian.AppendUint64(*p, uint64(v))
}

func (p *params) i32(v int) {
	p.align(4)
	*p = binary.LittleEndian.AppendUint32(*p, uint32(int32(v)))
}

// group packs struct Group, the first parameter of every kernel.
func (p *params) group(symm []driver.DevicePtr, multicast, control driver.DevicePtr, rank int) {
	for _, s := range symm {
		p.ptr(s)
	}
	p.ptr(multicast)
	p.ptr(control)
	p.i32(rank)
	p.align(8)
}

// rows packs struct Rows, of which so many rows may be read.
func (p *params) rows(prog *Program, r Rows, readable int) {
	p.align(8)
	p.ptr(r.Routing.Ptr)
	p.ptr(r.Probs.Ptr)
	if prog.GivenScales() {
		p.ptr(r.Scales.Ptr)
	}
	p.ptr(r.Hidden.Ptr)
	p.i32(readable)
	p.align(8)
}

// bring packs struct Bring.
func (p *params) bring(t Tokens, blocks, capacity int) {
	p.align(8)
	p.ptr(t.ptr)
	p.i32(t.n)
	p.i32(blocks)
	p.i32(capacity)
	p.align(8)
}

// travelling packs struct Travelling.
func (p *params) travelling(prog *Program, r Rows) {
	p.ptr(r.Routing.Ptr)
	p.ptr(r.Probs.Ptr)
	if prog.ScaleBlock > 0 {
		p.ptr(r.Scales.Ptr)
	}
	p.ptr(r.Hidden.Ptr)
}
