package probe

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
)

// Record is what one device computed.
type Record struct {
	Device string   `json:"device"`
	Driver string   `json:"driver"`
	Inputs string   `json:"inputs_sha256"`
	Forms  []Result `json:"forms"`
}

// Result is what one form came to.
type Result struct {
	Form   string   `json:"form"`
	SHA256 string   `json:"sha256"` // of all results, 8 little-endian bytes each
	First  []string `json:"first"`  // the first results
	// Raw has every stride-th result where PTX allows more than one: a hash
	// says nothing about how far results are apart.
	Raw string `json:"raw,omitempty"`
}

const (
	shown  = 4
	stride = 8
)

// NewRecord condenses the results of Run.
func NewRecord(device, driver string, forms []Form, results [][]uint64) *Record {
	sum := sha256.Sum256(inputBytes())
	r := &Record{Device: device, Driver: driver, Inputs: hex.EncodeToString(sum[:])}
	for i, f := range forms {
		x := Result{Form: f.Text, SHA256: hash(results[i])}
		for _, v := range results[i][:shown] {
			x.First = append(x.First, fmt.Sprintf("%#x", v))
		}
		if f.Approx != nil {
			var raw []byte
			for j := 0; j < Count; j += stride {
				raw = binary.LittleEndian.AppendUint64(raw, results[i][j])
			}
			x.Raw = base64.StdEncoding.EncodeToString(raw)
		}
		r.Forms = append(r.Forms, x)
	}
	return r
}

func hash(words []uint64) string {
	h := sha256.New()
	_ = binary.Write(h, binary.LittleEndian, words) // a hash takes everything
	return hex.EncodeToString(h.Sum(nil))
}

// Encode writes the record with one form a line, so that changes show.
func (r *Record) Encode() ([]byte, error) {
	head := *r
	head.Forms = nil
	text, err := json.Marshal(&head)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSuffix(text, []byte("null}"))
	b := bytes.NewBuffer(append(text, "[\n"...))
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	for i := range r.Forms {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := e.Encode(&r.Forms[i]); err != nil {
			return nil, err
		}
	}
	b.WriteString("]}\n")
	return b.Bytes(), nil
}

// Compare returns what results, of Run over forms, differ in from the record.
func (r *Record) Compare(forms []Form, results [][]uint64) ([]string, error) {
	sum := sha256.Sum256(inputBytes())
	if r.Inputs != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("the record of %s was made with other operands: make it anew", r.Device)
	}
	recorded := map[string]Result{}
	for _, x := range r.Forms {
		recorded[x.Form] = x
	}
	var differences []string
	for i, f := range forms {
		x, ok := recorded[f.Text]
		switch {
		case !ok:
			differences = append(differences, f.Text+": not in the record: make it anew")
		case f.Approx != nil:
			differences = append(differences, compareRaw(f, x, results[i])...)
		case x.SHA256 != hash(results[i]):
			differences = append(differences, fmt.Sprintf("%s: results differ%s", f.Text, firstDifference(x, results[i])))
		}
	}
	return differences, nil
}

// firstDifference tells of one that the record spells out, if there is one.
func firstDifference(x Result, got []uint64) string {
	in := Inputs()
	for i, text := range x.First {
		want, err := strconv.ParseUint(text, 0, 64)
		if err != nil || want != got[i] {
			return fmt.Sprintf(": %#x gives %#x, recorded is %s", in[i], got[i], text)
		}
	}
	return ", not in the first ones: tests/gpu's TestProbes lists operands"
}

func compareRaw(f Form, x Result, got []uint64) []string {
	raw, err := base64.StdEncoding.DecodeString(x.Raw)
	if err != nil || len(raw) != 8*Count/stride {
		return []string{f.Text + ": the record's results cannot be read"}
	}
	in := Inputs()
	for i := 0; i < len(raw); i += 8 {
		j := i / 8 * stride
		if want := binary.LittleEndian.Uint64(raw[i:]); !f.Approx.Close(in[j], want, got[j]) {
			return []string{fmt.Sprintf("%s: %#x gives %#x, recorded is %#x: further apart than PTX allows", f.Text, in[j], got[j], want)}
		}
	}
	return nil
}

// Difference is one operand for which two devices differ.
type Difference struct {
	Form         string
	In           [3]uint64
	First, Other uint64
}

// Differences compares two devices' results in full, and returns at most some
// of each form, and how many each form has.
func Differences(forms []Form, a, b [][]uint64, some int) (list []Difference, count map[string]int) {
	in, count := Inputs(), map[string]int{}
	for i, f := range forms {
		for j := range Count {
			if a[i][j] == b[i][j] || f.Approx != nil && f.Approx.Close(in[j], a[i][j], b[i][j]) {
				continue
			}
			if count[f.Text]++; count[f.Text] <= some {
				list = append(list, Difference{f.Text, in[j], a[i][j], b[i][j]})
			}
		}
	}
	return list, count
}
