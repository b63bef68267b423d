package runtime

import (
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// recorder has the images that were loaded on a device.
type recorder struct {
	driver.Device
	images []driver.Image
}

func (r *recorder) LoadModule(im driver.Image) (driver.Module, error) {
	r.images = append(r.images, im)
	return r.Device.LoadModule(im)
}

// TestKept: moegen's own kernels stay loaded, others, which may have variables,
// do not.
func TestKept(t *testing.T) {
	drv, err := Open(Backend{Name: "emu", Devices: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer drv.Close()
	p := &Program{Name: "empty", PTX: []byte(".version 9.0\n.target sm_90a\n.address_size 64\n.visible .entry k()\n{\n\tret;\n}\n")}
	r := &recorder{Device: drv.Devices()[0]}
	for i, load := range []func() (driver.Module, string, error){
		func() (driver.Module, string, error) { return loadProgram(t.Context(), r, p) },
		func() (driver.Module, string, error) { return LoadSource(t.Context(), r, p.Name+".cu", nil, p.PTX) },
	} {
		m, _, err := load()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Unload(); err != nil {
			t.Error(err)
		}
		if im := r.images[i]; im.Keep != (i == 0) || im.Name != "empty.cu" {
			t.Errorf("image %d: name %s, keep %v", i, im.Name, im.Keep)
		}
	}
}
