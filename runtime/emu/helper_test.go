package emu

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// machine wraps a Driver with calls that fail the test.
type machine struct {
	t testing.TB
	*Driver
}

func newMachine(t testing.TB, cfg Config) machine {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return machine{t, d}
}

func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	return must(os.ReadFile("testdata/" + name))(t)
}

func (m machine) load(dev int, ptx []byte) driver.Module {
	m.t.Helper()
	return must(m.Devices()[dev].LoadModule(driver.Image{Name: "test", PTX: ptx}))(m.t)
}

func (m machine) kernel(mod driver.Module, name string) driver.Function {
	m.t.Helper()
	return must(mod.Function(name))(m.t)
}

func (m machine) stream(dev int) driver.Stream {
	m.t.Helper()
	return must(m.Devices()[dev].NewStream())(m.t)
}

// alloc makes device memory holding data.
func alloc[T any](m machine, dev int, data []T) driver.DevicePtr {
	m.t.Helper()
	b := toBytes(data)
	p := must(m.Devices()[dev].Alloc(uint64(len(b))))(m.t)
	ok(m.t, m.Devices()[dev].Write(p, b))
	return p
}

func toBytes[T any](data []T) []byte {
	var buf bytes.Buffer
	if err := binary.Write(&buf, binary.LittleEndian, data); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func read[T any](m machine, dev int, p driver.DevicePtr, n int) []T {
	m.t.Helper()
	out := make([]T, n)
	b := make([]byte, binary.Size(out))
	ok(m.t, m.Devices()[dev].Read(b, p))
	if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, out); err != nil {
		m.t.Fatal(err)
	}
	return out
}

// pack lays parameters out at their natural alignment.
func pack(args ...any) []byte {
	var b []byte
	for _, a := range args {
		if i, ok := a.(int); ok {
			a = int32(i)
		}
		n := binary.Size(a)
		for len(b)%n != 0 {
			b = append(b, 0)
		}
		b, _ = binary.Append(b, binary.LittleEndian, a)
	}
	return b
}

func grid1(blocks, threads int) driver.LaunchConfig {
	return driver.LaunchConfig{Grid: driver.Dim3{X: blocks}, Block: driver.Dim3{X: threads}}
}

// peerAlloc makes memory on one device that all devices can access.
func (m machine) peerAlloc(dev int, size uint64) (driver.DevicePtr, driver.Memory) {
	m.t.Helper()
	mem := must(m.Devices()[dev].CreateMemory(size, driver.HandleNone))(m.t)
	p := must(m.Reserve(size, 0))(m.t)
	ok(m.t, m.Map(p, size, mem, 0))
	ok(m.t, m.SetAccess(p, size, m.Devices()...))
	return p, mem
}

// wantErr checks an error's code and that its text has all of texts.
func wantErr(t testing.TB, err error, code driver.Code, texts ...string) {
	t.Helper()
	if driver.CodeOf(err) != code {
		t.Fatalf("error %v, want code %d", err, code)
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			t.Fatalf("error does not say %q:\n%v", s, err)
		}
	}
}

func hex(x uint64) string { return fmt.Sprintf("%#x", x) }
