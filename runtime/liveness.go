package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/moegen/moegen/runtime/driver"
)

// mortal is a group that can lose ranks.
type mortal interface {
	// Err is why the group is at an end, nil while it is not.
	Err() error
	// watch calls f once the group is at an end; after stop has returned f does
	// not run and will not.
	watch(f func(error)) (stop func())
	// about says more of a rank, for messages.
	about(rank int) string
}

// watch implements mortal.
func (g *ProcessGroup) watch(f func(error)) (stop func()) {
	var mu sync.Mutex
	over := false
	end := g.session.OnFailure(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			f(err)
		}
	})
	return func() {
		end()
		mu.Lock()
		defer mu.Unlock()
		over = true
	}
}

// about implements mortal.
func (g *ProcessGroup) about(rank int) string {
	if rank < 0 || rank >= g.Size() || rank == g.rank {
		return ""
	}
	m := g.session.Members()[rank]
	return fmt.Sprintf("%s, pid %d, last heard of %v ago", m.Host, m.PID, g.session.Heard()[rank].Round(1e6))
}

// groupError is why a group is at an end, nil for groups that cannot be.
func groupError(g Group) error {
	if m, ok := g.(mortal); ok {
		return m.Err()
	}
	return nil
}

// codePeerGone is in the failure word that the host writes; kernels only see
// that it is not 0.
const codePeerGone = 4

// watchGroup makes the dispatcher's kernels leave when a rank is gone, without
// waiting for their deadlines: it writes the rank's failure word, the first 8
// bytes of its symmetric memory, which they look at while they wait. Device.Write
// uses a stream of its own and a copy engine, so it does not queue behind the
// kernel that waits. Where CUDA puts the two streams into one hardware queue all
// the same, the kernel's deadline comes first.
func (d *Dispatcher) watchGroup() {
	m, ok := d.group.(mortal)
	if !ok || d.transport == NCCL || d.prog.Ranks == 1 {
		return
	}
	dev, at, rank := d.dev, d.mem.Unicast[d.rank], d.rank
	stop := m.watch(func(err error) {
		peer := 0xff
		var gone *RankError
		if errors.As(err, &gone) {
			peer = gone.Rank
		}
		word := uint64(codePeerGone)<<56 | uint64(rank&0xff)<<40 | uint64(peer&0xff)<<32
		if werr := writeFailure(dev, at, word); werr != nil {
			d.log.Warn("moegen cannot tell the kernels that the group failed: they wait for their deadline", "rank", rank, "err", werr.Error())
		}
	})
	d.undo = append(d.undo, func() error { stop(); return nil })
}

func writeFailure(dev driver.Device, at driver.DevicePtr, word uint64) error {
	return dev.Write(at, binary.LittleEndian.AppendUint64(nil, word))
}

// because prefers the group's end, as the reason of err, to err.
func (d *Dispatcher) because(err error) error {
	gone := groupError(d.group)
	if gone == nil || err == nil {
		return err
	}
	d.fail(fmt.Errorf("%w (%v)", gone, err))
	return d.failed
}

// explain adds to a timeout what the group knows of the rank that it names.
func (d *Dispatcher) explain(err error) error {
	var f *FailedError
	m, ok := d.group.(mortal)
	if !ok || !errors.As(err, &f) {
		return err
	}
	if text := m.about(f.Peer); text != "" {
		f.Reason += " (" + text + ")"
	}
	return err
}
