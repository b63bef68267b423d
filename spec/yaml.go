package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// This file is the only one that knows the YAML library. It turns a file into
// nodes, each with its place, and refuses what specs may not use of YAML.

type kind int

const (
	kindBad   kind = iota // already reported: say no more
	kindNull              // no value, null or ~
	kindInt               // what YAML calls an integer, in any notation
	kindFloat             // and so on
	kindBool
	kindOther // timestamps, binary
	kindText
	kindList
	kindMap
)

func (k kind) String() string {
	return [...]string{"nothing", "nothing", "a number", "a number", "a boolean", "a timestamp", "text", "a list", "a mapping"}[k]
}

type node struct {
	pos
	kind   kind
	text   string // of a scalar, as written but without quotes
	quoted bool
	items  []*node // of a list
	keys   []key   // of a mapping, without duplicates
}

type key struct {
	pos
	name  string
	value *node
}

// maxDepth is how deep nodes may nest; the language needs three levels.
const maxDepth = 8

// parseYAML returns the file's top node, or nil where there is none to look at.
func parseYAML(data []byte, c *collector) (top *node) {
	// The library panics where it meets a state that it thinks impossible.
	// None is known, but a generator must not crash on a file that finds one.
	defer func() {
		if r := recover(); r != nil {
			c.add(pos{1, 1}, Error{Msg: fmt.Sprintf("the YAML library failed: %v", r)})
			top = nil
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return &node{pos: pos{1, 1}, kind: kindNull} // nothing but comments
	} else if err != nil {
		c.syntax(err, data)
		return nil
	}
	top = c.convert(doc.Content[0], "", 0)
	var second yaml.Node
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		c.syntax(err, data)
	default:
		c.add(pos{second.Line, second.Column}, Error{Msg: "a second YAML document; a spec is one document, so write a second file"})
	}
	return top
}

// convert makes a node of ours of a yaml.Node, reporting what specs may not use.
func (c *collector) convert(n *yaml.Node, path string, depth int) *node {
	out := &node{pos: pos{n.Line, n.Column}}
	if depth > maxDepth {
		c.add(out.pos, Error{Field: path, Msg: fmt.Sprintf("nested more than %d levels deep", maxDepth)})
		return out
	}
	if n.Anchor != "" {
		c.add(out.pos, Error{Field: path, Msg: "anchors are not allowed in a spec; write the value out", Value: show("&" + n.Anchor)})
		return out
	}
	if n.Style&yaml.TaggedStyle != 0 {
		c.add(out.pos, Error{Field: path, Msg: "tags are not allowed in a spec; write the value alone", Value: show(n.Tag)})
		return out
	}
	switch n.Kind {
	case yaml.AliasNode:
		c.add(out.pos, Error{Field: path, Msg: "aliases are not allowed in a spec; write the value out", Value: show("*" + n.Value)})
	case yaml.ScalarNode:
		out.text, out.quoted = n.Value, n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0
		out.kind = scalarKind(n)
	case yaml.SequenceNode:
		out.kind = kindList
		for i, item := range n.Content {
			out.items = append(out.items, c.convert(item, path+"["+strconv.Itoa(i)+"]", depth+1))
		}
	case yaml.MappingNode:
		out.kind = kindMap
		c.convertMap(n, out, path, depth)
	}
	return out
}

func (c *collector) convertMap(n *yaml.Node, out *node, path string, depth int) {
	first := make(map[string]int) // key -> line
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, p := n.Content[i], pos{n.Content[i].Line, n.Content[i].Column}
		sub := join(path, show(k.Value))
		switch line, dup := first[k.Value]; {
		case k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 || k.Kind == yaml.AliasNode:
			c.convert(k, path, depth+1) // says which of them
			continue
		case k.Kind == yaml.ScalarNode && k.ShortTag() == "!!merge":
			c.add(p, Error{Field: path, Msg: "merge keys are not allowed in a spec; write the keys out", Value: "<<"})
			continue
		case k.Kind != yaml.ScalarNode || scalarKind(k) != kindText:
			got := kindList.String()
			if k.Kind == yaml.MappingNode {
				got = kindMap.String()
			} else if k.Kind == yaml.ScalarNode {
				got = show(k.Value)
			}
			c.add(p, Error{Field: path, Msg: "a key must be the name of a field", Value: got})
			continue
		case dup:
			c.add(p, Error{Field: sub, Msg: fmt.Sprintf("duplicate key, first given in line %d; keep one of them", line)})
			continue
		}
		first[k.Value] = k.Line
		out.keys = append(out.keys, key{p, k.Value, c.convert(n.Content[i+1], sub, depth+1)})
	}
}

func scalarKind(n *yaml.Node) kind {
	switch n.ShortTag() {
	case "!!null":
		return kindNull
	case "!!int":
		return kindInt
	case "!!float":
		return kindFloat
	case "!!bool":
		return kindBool
	case "!!str", "!!merge":
		return kindText
	}
	return kindOther
}

var (
	yamlLine    = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	yamlUnknown = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	// Errors of yaml.v3's parser, unlike those of its scanner, carry a line
	// that counts from 0.
	yamlFromZero = regexp.MustCompile(`^(?:did not find expected (?:<document start>|node content|'-' indicator|key|',' or)|` +
		`found (?:duplicate %|incompatible YAML|undefined tag))`)
)

// syntax reports an error of the YAML library, which knows lines at best.
func (c *collector) syntax(err error, data []byte) {
	msg, p := err.Error(), pos{1, 1}
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		msg = strings.TrimPrefix(msg, m[0])
		if n, err := strconv.Atoi(m[1]); err == nil {
			p.line = max(n, 1)
			if yamlFromZero.MatchString(msg) {
				p.line++
			}
		}
	}
	// The end of the text may be the start of a line that does not exist.
	p.line = min(p.line, 1+bytes.Count(bytes.TrimRight(data, " \t\r\n"), []byte("\n")))
	if m := yamlUnknown.FindStringSubmatch(msg); m != nil {
		// This one has no line at all, but the alias can be found by its name.
		if i := bytes.Index(data, []byte("*"+m[1])); i >= 0 {
			before := data[:i]
			p.line = 1 + bytes.Count(before, []byte("\n"))
			p.col = 1 + len([]rune(string(before[bytes.LastIndexByte(before, '\n')+1:])))
		}
		c.add(p, Error{Msg: "aliases are not allowed in a spec; write the value out", Value: show("*" + m[1])})
		return
	}
	// The library may blame the line of a tab or the one before it.
	for _, line := range []int{p.line, p.line + 1} {
		if tab, ok := indentTab(data, line); ok {
			c.add(tab, Error{Msg: "a tab in the indentation; YAML indents with spaces"})
			return
		}
	}
	c.add(p, Error{Msg: "not YAML: " + msg})
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
