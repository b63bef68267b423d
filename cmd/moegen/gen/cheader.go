package gen

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/moegen/moegen/spec"
)

// headerData is what the C header's template sees.
type headerData struct {
	kernelData
	P          string // what its names start with
	Guard      string
	StepType   string
	NumExperts int
}

// CHeader returns the C header of a spec: the numbers that expert kernels need,
// in names that start with prefix in capitals.
func CHeader(s *spec.Spec, prefix string) ([]byte, error) {
	upper := strings.ToUpper(cName(prefix))
	d := &headerData{kernelData: newKernelData(s), P: upper, Guard: upper + "_MOEGEN_H",
		StepType: strings.ToLower(upper) + "_step", NumExperts: s.NumExperts}
	t, err := parseTemplates()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.ExecuteTemplate(&out, "moegen.h.tmpl", d); err != nil {
		return nil, fmt.Errorf("generate the C header: %w", err)
	}
	return tidy(out.Bytes()), nil
}

// cName makes an identifier of a file's name.
func cName(s string) string {
	name := strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, s)
	if name == "" || name[0] <= '9' {
		name = "m" + name
	}
	return name
}

// cType is an element type's macro, as in moegen.h.tmpl.
func cType(dtype string) string { return "MOEGEN_" + strings.ToUpper(dtype) }

func cBits(dtype string) string {
	if dtype == string(spec.FP4) {
		return "4"
	}
	return strconv.Itoa(8 * spec.DType(dtype).Size())
}
