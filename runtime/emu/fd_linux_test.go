package emu

import (
	"testing"

	"github.com/moegen/moegen/runtime/driver"
	"golang.org/x/sys/unix"
)

func TestPosixHandles(t *testing.T) {
	m := newMachine(t, Config{Devices: 2})
	mem := must(m.Devices()[0].CreateMemory(Granularity, driver.HandlePosixFD))(t)
	sh := must(mem.Export(driver.HandlePosixFD))(t)
	imp := must(m.Import(m.Devices()[1], sh, Granularity))(t)
	if imp.Size() != Granularity {
		t.Fatal("size")
	}
	ok(t, unix.Close(sh.FD))
}
