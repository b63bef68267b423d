package gpu

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/spec"
)

// TestSteps is what holds for every step, whatever the model.
func TestSteps(t *testing.T) {
	m := gpus(t, 2)
	t.Run("host never waits", func(t *testing.T) {
		for _, transport := range m.transports() {
			t.Run(string(transport), func(t *testing.T) { testHostNeverWaits(t, m, transport) })
		}
	})
	t.Run("launches", func(t *testing.T) { testLaunches(t, m) })
	t.Run("room for others", func(t *testing.T) { testRoomForOthers(t, m) })
	t.Run("memory", func(t *testing.T) { testMemory(t, m) })
	t.Run("missing rank", func(t *testing.T) { testMissingRank(t, m) })
}

// testHostNeverWaits enqueues a step behind a kernel that waits for the host:
// if any call of the step waited for the device, the kernel would give up.
func testHostNeverWaits(t *testing.T, m machine, transport moert.Transport) {
	r := open(t, m, smallProgram(t), moert.WithTransport(transport))
	r.good(t, 3) // libraries set themselves up at their first call
	words, gates := make([]driver.HostMemory, 2), make([]driver.Function, 2)
	for rank, d := range m.ranks(2) {
		h, err := d.AllocHost(64)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := h.Free(); err != nil {
				t.Error(err)
			}
		})
		clear(h.Bytes())
		words[rank], gates[rank] = h, helpers(t, d)("gate")
	}
	// Only now: allocating and loading may wait for a device.
	for rank, s := range r.streams {
		s.forget()
		// Not through the spy: it is no part of the step.
		if err := s.Stream.Launch(gates[rank], oneThread, pack([]driver.DevicePtr{words[rank].Ptr()}, patience)); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	enqueued := r.each(func(_ context.Context, rank int) error {
		for range 4 {
			if err := r.step(rank, 5); err != nil {
				return err
			}
		}
		return nil
	})
	took := time.Since(start)
	for rank := range words {
		if binary.LittleEndian.Uint32(words[rank].Bytes()[8:]) != 0 {
			t.Errorf("rank %d: the step's calls came back only when the device had given up waiting", rank)
		}
		atomic.StoreUint32((*uint32)(unsafe.Pointer(&words[rank].Bytes()[0])), 1)
	}
	if enqueued != nil {
		t.Error(enqueued)
	}
	for rank, d := range r.d {
		if err := d.Synchronize(r.streams[rank].Stream); err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
		if got := binary.LittleEndian.Uint32(words[rank].Bytes()[8:]); got != 1 {
			t.Errorf("rank %d: the gate ended with %d, want 1: the host opened it", rank, got)
		}
		if s := r.streams[rank]; transport == moert.P2P && (len(s.others) != 0 || len(s.launches) != 4*3) {
			t.Errorf("rank %d: 4 steps made %d launches and %v", rank, len(s.launches), s.others)
		}
	}
	t.Logf("4 steps were enqueued in %v behind a waiting kernel", took)
}

// testLaunches: a captured p2p step of two layers is one launch for each
// operation, without copies, and one more for counts that travel early.
func testLaunches(t *testing.T, m machine) {
	r := open(t, m, smallProgram(t), moert.WithTransport(moert.P2P))
	r.good(t, 2)
	for rank, d := range r.d {
		s, in := r.streams[rank], r.in[rank]
		for _, c := range []struct {
			begin func() error
			nodes int
		}{
			{func() error { return d.BeginStep(s, moert.HostTokens(2)) }, 5},
			{func() error { return d.NextStep(moert.HostTokens(2)) }, 4},
		} {
			if err := s.BeginCapture(); err != nil {
				t.Fatal(err)
			}
			err := c.begin()
			for range 2 {
				if err == nil {
					_, err = d.Dispatch(s, moert.Rows{Routing: in[0], Probs: in[1], Hidden: in[2]})
				}
				if err == nil {
					_, err = d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()})
				}
			}
			g, endErr := s.EndCapture()
			if err := errors.Join(err, endErr); err != nil {
				t.Fatal(err)
			}
			nodes, err := g.Nodes()
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				if n.Kind != "kernel" {
					t.Errorf("rank %d: a %s node", rank, n.Kind)
				}
			}
			if len(nodes) != c.nodes {
				t.Errorf("rank %d: %d nodes, want %d: %v", rank, len(nodes), c.nodes, nodes)
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// testMemory: Close gives everything back, time and again.
func testMemory(t *testing.T, m machine) {
	p := smallProgram(t)
	cycle := func() {
		t.Helper()
		r, err := tryOpen(m, p, moert.WithTransport(moert.P2P))
		// Where ranks share a GPU, streams that come and go end up in one
		// hardware queue sooner or later, and the first rank waits in vain.
		if err == nil && !m.oneGPU {
			err = r.each(func(_ context.Context, rank int) error {
				return errors.Join(r.step(rank, 1), r.d[rank].Synchronize(r.streams[rank]))
			})
		}
		r.close(t)
		if err != nil {
			t.Fatal(err)
		}
	}
	cycle() // CUDA keeps what the first module and the first kernel need
	// The compiler's version is asked for at every load; without a compiler the
	// cache is read.
	compiler := os.Getenv("MOEGEN_NVCC")
	if m.real {
		t.Setenv("MOEGEN_NVCC", filepath.Join(t.TempDir(), "none"))
	}
	// The driver's own heaps grow for a while, and in pages of 2 MiB: one of them
	// may go at any time, a second one only where cycles lose 2.6 KB or more each.
	cycles, deadline := pick(m, 1000, 100), time.Now().Add(75*time.Second)
	warm, done := cycles/5, 0
	start := free(t, m)
	before := start
	for ; done < cycles && time.Now().Before(deadline); done++ {
		if done == warm {
			before = free(t, m)
		}
		if cycle(); t.Failed() {
			t.Fatalf("cycle %d", done)
		}
	}
	after := free(t, m)
	allowed := pick(m, uint64(2<<20), 0)
	for i := range before {
		if after[i]+allowed < before[i] {
			t.Errorf("GPU %d has %d bytes less after %d cycles than after %d", i, before[i]-after[i], done, warm)
		}
	}
	what := "opening, a step and closing"
	if m.oneGPU {
		what = "opening and closing, without a step"
	}
	t.Logf("%d cycles of %s; free before them %d, after %d of them %d, after all %d", done, what, start, warm, before, after)
	if done < cycles/4 {
		t.Errorf("only %d of %d cycles in 75 s", done, cycles)
	}

	// What a large dispatcher takes is there again when it is closed, but for its
	// code, which stays loaded.
	s := specs(t, func(s *spec.Spec) { s.MaxTokens = pick(m, 4096, 64) })["deepseek-v3"]
	big := program(t, s)
	t.Setenv("MOEGEN_NVCC", compiler)
	r := open(t, m, big, moert.WithTransport(moert.P2P))
	during, code := free(t, m), pick(m, uint64(16<<20), 0)
	r.close(t)
	closed := free(t, m)
	for i := range before {
		if taken := before[i] - during[i]; taken < big.Layout.Bytes || during[i] > before[i] {
			t.Errorf("GPU %d: an open dispatcher takes %d bytes, of symmetric memory alone %d", i, int64(taken), big.Layout.Bytes)
		}
		if closed[i]+allowed+code < before[i] {
			t.Errorf("GPU %d: %d bytes are not given back", i, before[i]-closed[i])
		}
	}
}

func free(t testing.TB, m machine) []uint64 {
	t.Helper()
	var out []uint64
	for _, d := range m.ranks(2) {
		f, _, err := d.MemInfo()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

// testMissingRank: a rank whose peer does not come fails in time, with the
// peer's number; a new group works.
func testMissingRank(t *testing.T, m machine) {
	const timeout = 200 * time.Millisecond
	for _, after := range []string{"nothing", "BeginStep", "Dispatch"} {
		r := open(t, m, smallProgram(t), moert.WithTransport(moert.P2P), moert.WithTimeout(timeout))
		r.good(t, 4)
		if err := r.step(0, 2); err != nil {
			t.Fatal(err)
		}
		d, s, in := r.d[1], r.streams[1], r.in[1]
		if after != "nothing" {
			if err := d.BeginStep(s, moert.HostTokens(1)); err != nil {
				t.Fatal(err)
			}
		}
		if after == "Dispatch" {
			if _, err := d.Dispatch(s, moert.Rows{Routing: in[0], Probs: in[1], Hidden: in[2]}); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		err := r.d[0].Synchronize(r.streams[0])
		took := time.Since(start)
		var fe *moert.FailedError
		if !errors.As(err, &fe) || fe.Peer != 1 {
			t.Errorf("after %s: %v, want a failure about rank 1", after, err)
		}
		if took > 5*time.Second {
			t.Errorf("after %s: it took %v", after, took)
		}
		if err := r.step(0, 1); !errors.As(err, &fe) {
			t.Errorf("after %s: the failed group goes on: %v", after, err)
		}
		t.Logf("after %s: %v, after %v", after, err, took)
		r.close(t)

		again := open(t, m, smallProgram(t), moert.WithTransport(moert.P2P))
		again.good(t, 4, 16)
		again.close(t)
	}
}
