package gpu

import (
	"bytes"
	"errors"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
)

// TestNCCLAlone runs NCCL's collectives with one rank, where they are copies,
// on a stream and in a replayed graph: what can be had of the real library on
// one GPU.
func TestNCCLAlone(t *testing.T) {
	m := gpus(t, 1)
	dev := m.Devices()[0]
	var comms []driver.Collective
	var err error
	if m.real {
		lib, lerr := nccl.Open()
		if lerr != nil {
			t.Fatal(lerr) // a machine with a GPU has NCCL, or says where: MOEGEN_NCCL
		}
		t.Logf("NCCL %s", lib.Version())
		comms, err = lib.NewCollectives([]driver.Device{dev})
	} else {
		comms, err = m.Driver.(interface {
			NewCollectives([]driver.Device) ([]driver.Collective, error)
		}).NewCollectives([]driver.Device{dev})
	}
	if err != nil {
		t.Fatal(err)
	}
	c := comms[0]
	s, err := dev.NewStream()
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 16
	var memory [4]driver.DevicePtr // sent, gathered, reduced, exchanged
	for i := range memory {
		if memory[i], err = dev.Alloc(size); err != nil {
			t.Fatal(err)
		}
	}
	enqueue := func() error {
		return errors.Join(c.GroupStart(),
			c.AllGather(s, memory[0], memory[1], size),
			c.ReduceScatter(s, memory[0], memory[2], size/4, driver.Float32),
			c.AllToAll(s, memory[0], memory[3], size),
			c.GroupEnd())
	}
	check := func(what string, fill byte) {
		t.Helper()
		for _, p := range memory[1:] {
			got := make([]byte, size)
			if err := dev.Read(got, p); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, bytes.Repeat([]byte{fill}, size)) {
				t.Errorf("%s: byte 0 is %#x, want %#x everywhere", what, got[0], fill)
			}
		}
	}
	send := func(fill byte) {
		t.Helper()
		if err := dev.Write(memory[0], bytes.Repeat([]byte{fill}, size)); err != nil {
			t.Fatal(err)
		}
	}
	send(0x41)
	if err := errors.Join(enqueue(), s.Synchronize()); err != nil {
		t.Fatal(err)
	}
	check("on a stream", 0x41)

	if err := s.BeginCapture(); err != nil {
		t.Fatal(err)
	}
	if err := enqueue(); err != nil {
		t.Fatal(err)
	}
	graph, err := s.EndCapture()
	if err != nil {
		t.Fatal(err)
	}
	exec, err := graph.Instantiate()
	if err != nil {
		t.Fatal(err)
	}
	for _, fill := range []byte{0x42, 0x43} {
		send(fill)
		if err := errors.Join(exec.Launch(s), s.Synchronize()); err != nil {
			t.Fatal(err)
		}
		check("in a graph", fill)
	}
	if err := errors.Join(exec.Close(), graph.Close(), c.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	for _, p := range memory {
		if err := dev.Free(p); err != nil {
			t.Error(err)
		}
	}
}
