package runtime

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// wordLayout is where kernels keep what they signal each other, in symmetric
// memory, and their epochs, in the private state; in bytes. The order is that of
// layout.cu.tmpl, of which Layout has the beginnings; words_test.go compares.
type wordLayout struct {
	counts                  uint64 // uint64[2][blocks][ranks]: epoch << 32 | ...
	dispatch, combine       uint64 // uint32[blocks][ranks], protocol bulk
	lowDispatch, lowCombine uint64 // uint32[ranks], protocol ll
	end                     uint64

	countEpochs                         uint64 // uint32[blocks]
	lowDispatchEpochs, lowCombineEpochs uint64 // uint32[blocks]
	dispatchEpochs, combineEpochs       uint64 // uint32[blocks][ranks]
}

// Offsets in the private state of what kernels count beside epochs.
const slowWaitsOffset = 24

// low reports whether the program has kernels of protocol ll.
func (p *Program) low() bool { return p.Layout.Staging < p.Layout.Bytes }

func (p *Program) words() wordLayout {
	blocks, ranks := uint64(p.MaxBlocks), uint64(p.Ranks)
	var w wordLayout
	at := p.Layout.Signals
	place := func(bytes uint64) uint64 {
		start := (at + 127) &^ 127
		at = start + bytes
		return start
	}
	w.counts = place(2 * blocks * ranks * 8)
	w.dispatch, w.combine = place(blocks*ranks*4), place(blocks*ranks*4)
	if p.low() {
		w.lowDispatch, w.lowCombine = place(ranks*4), place(ranks*4)
	}
	w.end = at

	at = p.Layout.Epochs
	next := func(words uint64) uint64 {
		start := at
		at += 4 * words
		return start
	}
	w.countEpochs = next(blocks)
	if p.low() {
		w.lowDispatchEpochs, w.lowCombineEpochs = next(blocks), next(blocks)
	}
	w.dispatchEpochs, w.combineEpochs = next(blocks*ranks), next(blocks*ranks)
	return w
}

func word(b []byte, at uint64) uint32 { return binary.LittleEndian.Uint32(b[at:]) }

// ended is the least of the epochs that block 0 has reached with each rank.
func (p *Program) ended(control []byte, at uint64) uint32 {
	least := word(control, at)
	for r := range uint64(p.Ranks) {
		if e := word(control, at+4*r); int32(e-least) < 0 {
			least = e
		}
	}
	return least
}

// readLimit is how long a copy of some words may take before the GPU counts as
// one that does not answer any more.
const readLimit = 5 * time.Second

var errNoAnswer = errors.New("the GPU does not answer")

// readWords copies a little device memory, beside kernels that may run for ever.
func readWords(dev driver.Device, at driver.DevicePtr, bytes uint64) ([]byte, error) {
	type result struct {
		b   []byte
		err error
	}
	done := make(chan result, 1) // whoever comes too late finds room
	go func() {
		b := make([]byte, bytes)
		err := dev.Read(b, at)
		done <- result{b, err}
	}()
	timer := time.NewTimer(readLimit)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.b, r.err
	case <-timer.C:
		return nil, errNoAnswer
	}
}
