package mutation

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/moegen/moegen/cmd/moegen/gen"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
)

// This file looks at what a failure leaves behind: the failure word of every
// rank, the host's copy of it, what was sent all the same, and how long it
// took.

// word is a failure as kernels write it down.
type word uint64

// Failure codes, as in the kernels' enum Code.
const (
	timedOut      = 1
	tooManyTokens = 2
	gridsDiffer   = 3
)

func failure(code int, phase moert.Phase, rank, peer int, epoch uint32) word {
	return word(uint64(code)<<56 | uint64(phase)<<48 | uint64(rank)<<40 | uint64(peer)<<32 | uint64(epoch))
}

// slow is what a wait has to exceed to be counted, as in the kernels.
const slow = 100 * time.Microsecond

func (w word) code() int { return int(w >> 56) }

// noticedBy is the rank that found it.
func (w word) noticedBy() int { return int(w >> 40 & 0xff) }

func (w word) String() string {
	return fmt.Sprintf("{code %d, phase %d, rank %d, peer %d, epoch %#x}", w>>56, w>>48&0xff, w>>40&0xff, w>>32&0xff, uint32(w))
}

// hostBytes is how much host memory the runtime has for the status.
const hostBytes = 64

// locate finds what the runtime keeps to itself, from what kernels are told.
func (x *rank) locate(l moert.Layout) error {
	x.symm = x.d.Gathered().Hidden.Ptr - driver.DevicePtr(l.Hidden)
	x.control = x.d.Step().Total - driver.DevicePtr(l.Step)
	status := make([]byte, 8)
	if err := x.d.Device().Read(status, x.control+8); err != nil {
		return err
	}
	x.status = driver.DevicePtr(binary.LittleEndian.Uint64(status))
	return nil
}

// watch is the host's look at its word while kernels run, as the runtime has
// at every call. The judge sees this one.
func (r *rig) watch() error {
	for _, x := range r.ranks {
		if _, err := r.drv.HostLoad(x.status); err != nil {
			return err
		}
	}
	return nil
}

// words returns a rank's failure word and the host's copy, when its kernels
// have ended.
func (r *rig) words(id int) (own, status word, err error) {
	x := r.ranks[id]
	// Both words have some bytes beside them that nobody writes.
	mine, host := make([]byte, r.prog.Layout.Signals), make([]byte, hostBytes)
	err = errors.Join(x.d.Device().Read(mine, x.symm), x.d.Device().Read(host, x.status))
	if len(bytes.Trim(mine[8:], "\x00"))+len(bytes.Trim(host[8:], "\x00")) > 0 {
		err = errors.Join(err, fmt.Errorf("rank %d: bytes beside the failure word or the host's were written", id))
	}
	return word(binary.LittleEndian.Uint64(mine)), word(binary.LittleEndian.Uint64(host)), err
}

// noFailure wants every failure word, and the host's copy, as they were made.
func (r *rig) noFailure() error {
	for id := range r.ranks {
		if own, status, err := r.words(id); err != nil || own != 0 || status != 0 {
			return fmt.Errorf("rank %d: failure word %v, host's word %v: %v", id, own, status, err)
		}
		if err := r.slow(id, 0); err != nil {
			return err
		}
	}
	return nil
}

// slow wants so many slow waits counted, and nothing written beside the count.
// Virtual time stands still while a wait can end, so that there is one at most:
// of a rank that gives up, for all its threads together.
func (r *rig) slow(id, waits int) error {
	words := make([]byte, 64-24) // up to the Step
	if err := r.ranks[id].d.Device().Read(words, r.ranks[id].control+24); err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint32(words); got != uint32(waits) {
		return fmt.Errorf("rank %d has counted %d slow waits, not %d", id, got, waits)
	}
	if len(bytes.Trim(words[4:], "\x00")) > 0 {
		return fmt.Errorf("rank %d: words beside its slow waits were written", id)
	}
	return nil
}

// failed wants one of the failures at every rank, and at the hosts of those
// whose kernels have had to do with it; the other hosts know nothing yet.
//
// Who notices a failure tells everybody once it stands in its own word, where
// the first one stays. So a rank notices one failure at most, and if two ranks
// did, each was told by the other and no longer holds its own.
func (r *rig) failed(told func(id int) bool, true_ ...word) error {
	found := map[word]bool{}
	own := make([]word, len(r.ranks))
	for id := range r.ranks {
		var status word
		var err error
		if own[id], status, err = r.words(id); err != nil {
			return err
		}
		if !slices.Contains(true_, own[id]) {
			return fmt.Errorf("rank %d: failure word %v, want one of %v", id, own[id], true_)
		}
		found[own[id]] = true
		switch {
		case told(id) && !slices.Contains(true_, status):
			return fmt.Errorf("rank %d: host's word %v, want one of %v", id, status, true_)
		case told(id):
			found[status] = true
		case status != 0:
			return fmt.Errorf("rank %d: host's word %v, and none of its kernels has failed", id, status)
		}
	}
	noticed := map[int]word{}
	for w := range found {
		if o, ok := noticed[w.noticedBy()]; ok && o != w {
			return fmt.Errorf("rank %d notices both %v and %v", w.noticedBy(), o, w)
		}
		noticed[w.noticedBy()] = w
	}
	for id, w := range own {
		if wait := r.patience(id); w.noticedBy() == id && w.code() == timedOut || wait <= slow {
			waits := 1
			if wait <= slow {
				waits = 0
			}
			if err := r.slow(id, waits); err != nil {
				return err
			}
		}
		if w.noticedBy() == id && len(found) > 1 {
			return fmt.Errorf("rank %d keeps %v, though another rank noticed something, too: %v", id, w, found)
		}
	}
	return nil
}

// told is what a host makes of its word.
func (r *rig) told(id int, want word) error {
	err := r.ranks[id].d.Err()
	var f *moert.FailedError
	if !errors.As(err, &f) {
		return fmt.Errorf("rank %d: the host is told %v, not of %v", id, err, want)
	}
	if got := failure(int(want>>56), f.Phase, f.Rank, f.Peer, f.Epoch); got != want {
		return fmt.Errorf("rank %d: the host is told %v, not of %v", id, err, want)
	}
	return nil
}

// sent is all that a kernel of a group that has failed must not send: signals
// and gathered tensors of every rank, and the epochs of flags, which it keeps.
// With protocol ll rows go on being pushed, to where nobody looks without a
// header.
func (r *rig) sent(id int, low bool) ([]byte, error) {
	l := r.prog.Layout
	end := l.Partial
	if low {
		end = gen.LaunchOf(r.spec).Layout.LowLines
	}
	var all []byte
	for _, x := range r.ranks {
		b := make([]byte, end-l.Signals)
		if err := x.d.Device().Read(b, x.symm+driver.DevicePtr(l.Signals)); err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	start := l.Epochs + uint64(3*4*r.prog.MaxBlocks) // those of counts and of protocol ll go on
	epochs := make([]byte, l.Control-start)
	err := r.ranks[id].d.Device().Read(epochs, r.ranks[id].control+driver.DevicePtr(start))
	return append(all, epochs...), err
}

// lowEpochs wants the epoch of protocol ll's operations in the words of all
// blocks, also of those that the last launch did not have.
func (r *rig) lowEpochs(id int, epoch uint32) error {
	n := 2 * 4 * r.prog.MaxBlocks // behind those of counts
	words := make([]byte, n)
	if err := r.ranks[id].d.Device().Read(words, r.ranks[id].control+driver.DevicePtr(r.prog.Layout.Epochs+uint64(n/2))); err != nil {
		return err
	}
	for at := 0; at < n; at += 4 {
		if got := binary.LittleEndian.Uint32(words[at:]); got != epoch {
			return fmt.Errorf("rank %d: epoch word %d of protocol ll is %#x, not %#x", id, at/4, got, epoch)
		}
	}
	return nil
}

// ownLines wants no line that was not of a row: the words of inputs behind the
// rows are all alike.
func (x *trial) ownLines(r *rig, id int) error {
	l := gen.LaunchOf(x.spec).Layout
	lines := make([]byte, 2*uint64(x.prog.Ranks)*x.lowLineBytes())
	if err := r.ranks[id].d.Device().Read(lines, r.ranks[id].symm+driver.DevicePtr(l.LowLines)); err != nil {
		return err
	}
	for at := 0; at < len(lines); at += 8 {
		if binary.LittleEndian.Uint32(lines[at:]) == behind*0x01010101 {
			return fmt.Errorf("rank %d: line %d is of no row", id, at/8)
		}
	}
	return nil
}

// nothingLeft wants staging buffers of packs as they were made: whoever gets a
// word puts kAbsent back, and there are none that nobody gets.
func (x *trial) nothingLeft(r *rig, id int) error {
	from, end := gen.LaunchOf(x.spec).Layout.LowDispatch, x.prog.Layout.Bytes
	words := make([]byte, end-from)
	if err := r.ranks[id].d.Device().Read(words, r.ranks[id].symm+driver.DevicePtr(from)); err != nil {
		return err
	}
	if left := bytes.Trim(words, "\xff"); len(left) > 0 {
		return fmt.Errorf("rank %d: staging buffers hold something that nobody got", id)
	}
	return nil
}

// emptyStep wants a step without rows, which is what a failed one is.
func (r *rig) emptyStep(id int, epoch uint32) error {
	t := moert.Tensor{Ptr: r.ranks[id].d.Step().Total}
	if err := r.checkStep(id, t, stepWords(make([]int, len(r.ranks)), id, epoch, r.ranks[id].d.Capacity())); err != nil {
		return fmt.Errorf("rank %d: after a failure: %w", id, err)
	}
	return nil
}

// timed runs f, which enqueues on some ranks, waits for these, and returns how
// long each took in virtual time.
func (r *rig) timed(ids []int, f func(id int) error) (map[int]time.Duration, error) {
	events := map[int][2]driver.Event{}
	for _, id := range ids {
		x := r.ranks[id]
		var e [2]driver.Event
		for i := range e {
			var err error
			if e[i], err = x.d.Device().NewEvent(); err != nil {
				return nil, err
			}
		}
		events[id] = e
		if err := errors.Join(x.stream.Record(e[0]), f(id), x.stream.Record(e[1])); err != nil {
			return nil, err
		}
	}
	if err := r.watch(); err != nil {
		return nil, err
	}
	took := map[int]time.Duration{}
	for _, id := range ids {
		if err := r.ranks[id].stream.Synchronize(); err != nil {
			return nil, err
		}
		var err error
		if took[id], err = events[id][1].Since(events[id][0]); err != nil {
			return nil, err
		}
	}
	return took, nil
}

// waited wants a rank to have waited just so long; launches take some virtual
// microseconds of their own.
func waited(id int, took, want time.Duration) error {
	if took < want || took > want+100*time.Microsecond {
		return fmt.Errorf("rank %d ends after %v, want %v", id, took, want)
	}
	return nil
}

func same(a, b []byte) error {
	if !bytes.Equal(a, b) {
		return fmt.Errorf("a kernel of a group that had failed has signalled or sent: byte %d", difference(a, b))
	}
	return nil
}
