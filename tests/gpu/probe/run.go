package probe

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
)

// Run executes the forms on a device and returns each one's results.
func Run(d driver.Device, forms []Form) (results [][]uint64, err error) {
	ptx, names := Module(forms)
	m, err := d.LoadModule(driver.Image{Name: "probes", PTX: ptx})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Unload()) }()
	s, err := d.NewStream()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	in, out, err := operands(d)
	defer func() {
		for _, p := range []driver.DevicePtr{in, out} {
			if p != 0 {
				err = errors.Join(err, d.Free(p))
			}
		}
	}()
	if err != nil {
		return nil, err
	}

	params := binary.LittleEndian.AppendUint64(nil, uint64(in))
	params = binary.LittleEndian.AppendUint64(params, uint64(out))
	shape := driver.LaunchConfig{Grid: driver.Dim3{X: Count / threads}, Block: driver.Dim3{X: threads}}
	raw := make([]byte, 8*Count)
	for i, name := range names {
		f, err := m.Function(name)
		if err != nil {
			return nil, err
		}
		err = errors.Join(s.MemsetAsync(out, 0xa5, uint64(len(raw))), s.Launch(f, shape, params))
		if err = errors.Join(err, s.Synchronize()); err != nil {
			return nil, fmt.Errorf("%s: %w", forms[i].Text, err)
		}
		if err := d.Read(raw, out); err != nil {
			return nil, err
		}
		words := make([]uint64, Count)
		for j := range words {
			words[j] = binary.LittleEndian.Uint64(raw[8*j:])
		}
		results = append(results, words)
	}
	return results, nil
}

// operands makes the inputs' and the outputs' memory. What it returns has to be
// freed also if there is an error.
func operands(d driver.Device) (in, out driver.DevicePtr, err error) {
	data := inputBytes()
	if in, err = d.Alloc(uint64(len(data))); err != nil {
		return 0, 0, err
	}
	if out, err = d.Alloc(8 * Count); err != nil {
		return in, 0, err
	}
	return in, out, d.Write(in, data)
}

func inputBytes() []byte {
	var data []byte
	for _, x := range Inputs() {
		for _, word := range x {
			data = binary.LittleEndian.AppendUint64(data, word)
		}
	}
	return data
}
