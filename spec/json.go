package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"unicode/utf8"
)

// pythonNumber is what Python writes into JSON for numbers that JSON has not:
// Mamba models' configs say "time_step_limit": [0.0, Infinity]. Strings come
// first, so that nothing is found inside them.
var pythonNumber = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b`)

// parseJSON returns the nodes of a JSON text, nil after it has reported an error.
// Where a key is given twice the last one counts, as in Python.
func parseJSON(data []byte, c *collector) *node {
	if !utf8.Valid(data) {
		c.add(pos{1, 1}, Error{Msg: "not UTF-8; is this a JSON file?"})
		return nil
	}
	data = bytes.TrimPrefix(data, bom)
	masked := pythonNumber.ReplaceAllFunc(data, func(m []byte) []byte {
		if m[0] == '"' {
			return m
		}
		return append([]byte("0"), bytes.Repeat([]byte(" "), len(m)-1)...) // places stay what they are
	})
	r := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(masked))}
	r.dec.UseNumber()
	top, err := r.value(0)
	if err == nil && len(bytes.TrimSpace(data[r.dec.InputOffset():])) > 0 {
		c.add(r.next(), Error{Msg: "not JSON: something follows the end of the value"})
		return nil
	}
	if err != nil {
		at := r.dec.InputOffset()
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			at = max(syntax.Offset-1, 0)
		} else if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			at, err = int64(len(bytes.TrimRight(data, " \t\r\n"))), errors.New("the text ends too early")
		}
		c.add(r.pos(at), Error{Msg: "not JSON: " + err.Error()})
		return nil
	}
	return top
}

// jsonReader makes nodes of the decoder's tokens.
type jsonReader struct {
	data []byte
	dec  *json.Decoder
}

// pos is the place of a byte of the text.
func (r *jsonReader) pos(offset int64) pos {
	before := r.data[:min(int(offset), len(r.data))]
	return pos{1 + bytes.Count(before, []byte("\n")), 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])}
}

// next is the place of the next token.
func (r *jsonReader) next() pos {
	at := r.dec.InputOffset()
	for at < int64(len(r.data)) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[at]) >= 0 {
		at++
	}
	return r.pos(at)
}

const maxJSONDepth = 64 // configs nest four deep

func (r *jsonReader) value(depth int) (*node, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("nested more than %d levels deep", maxJSONDepth)
	}
	n := &node{pos: r.next()}
	token, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case nil:
		n.kind = kindNull
	case bool:
		n.kind, n.text = kindBool, fmt.Sprint(t)
	case string:
		n.kind, n.text, n.quoted = kindText, t, true
	case json.Number:
		n.kind, n.text = kindFloat, t.String()
		if plainInt.MatchString(n.text) {
			n.kind = kindInt
		}
	case json.Delim:
		if t == '[' {
			n.kind = kindList
		} else {
			n.kind = kindMap
		}
		for r.dec.More() {
			if err := r.item(n, depth); err != nil {
				return nil, err
			}
		}
		_, err = r.dec.Token() // the closing bracket
	}
	return n, err
}

// item adds the next item of a list, or the next key of a mapping.
func (r *jsonReader) item(n *node, depth int) error {
	k := key{pos: r.next()}
	if n.kind == kindMap {
		token, err := r.dec.Token()
		if err != nil {
			return err
		}
		k.name, _ = token.(string) // the decoder lets no other key pass
	}
	v, err := r.value(depth + 1)
	if err != nil {
		return err
	}
	if n.kind == kindList {
		n.items = append(n.items, v)
		return nil
	}
	k.value = v
	for i := range n.keys {
		if n.keys[i].name == k.name {
			n.keys[i] = k
			return nil
		}
	}
	n.keys = append(n.keys, k)
	return nil
}

// find returns the value at a path of keys, nil where there is none or null.
func (n *node) find(path ...string) *node {
	for _, name := range path {
		if n == nil {
			return nil
		}
		var found *node
		for _, k := range n.keys {
			if k.name == name {
				found = k.value
			}
		}
		n = found
	}
	if n == nil || n.kind == kindNull {
		return nil
	}
	return n
}
