// Package mixtral is Mixtral-8x7B: what moegen generates of its config.json, and
// its experts.
package mixtral

import (
	"bytes"
	"context"
	"fmt"

	moert "github.com/moegen/moegen/runtime"
)

//go:generate go tool moegen generate moe.yaml

// RunLayer sends tokens of one rank, all ones, through one layer and checks what
// comes back. All ranks of the group call it at the same time.
func RunLayer(ctx context.Context, group moert.Group, rank, tokens int) error {
	d, err := NewDispatcher(ctx, group, rank)
	if err != nil {
		return err
	}
	defer d.Close()
	hidden, err := d.NewHidden(MaxTokens)
	if err != nil {
		return err
	}
	probs, err := d.NewProbs(MaxTokens)
	if err != nil {
		return err
	}
	routing, err := d.NewRouting(MaxTokens)
	if err != nil {
		return err
	}
	ones := bytes.Repeat([]byte{0x80, 0x3f}, tokens*HiddenDim) // bf16
	if err := d.Core().Device().Write(hidden.Ptr(), ones); err != nil {
		return err
	}
	stream, err := d.Core().NewStream()
	if err != nil {
		return err
	}
	defer stream.Close()

	if err := d.BeginStep(stream, moert.HostTokens(tokens)); err != nil {
		return err
	}
	gathered, err := d.Dispatch(stream, Local{Hidden: hidden, Probs: probs, Routing: routing})
	if err != nil {
		return err
	}
	if err := experts(stream, gathered, d.PartialBuffer()); err != nil {
		return err
	}
	out, err := d.Combine(stream, d.PartialBuffer())
	if err != nil {
		return err
	}
	if err := d.Synchronize(stream); err != nil {
		return err
	}
	sums := make([]byte, len(ones))
	if err := d.Core().Device().Read(sums, out.Ptr()); err != nil {
		return err
	}
	if twos := bytes.Repeat([]byte{0x00, 0x40}, tokens*HiddenDim); !bytes.Equal(sums, twos) {
		return fmt.Errorf("the sum of %d ranks' ones is not %[1]d", EPSize)
	}
	return nil
}

// experts stands for this rank's experts: a real model launches its own kernels
// here, on the same stream. These return what they are given.
func experts(stream moert.Stream, in Gathered, out Partial) error {
	return stream.CopyAsync(out.Ptr(), in.Hidden.Ptr(), MaxGathered*HiddenDim*2)
}
