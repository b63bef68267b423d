package spec

import "slices"

// Default is a field that a spec's text leaves to its default.
type Default struct{ Field, Value string }

// Defaults lists what the text of a spec leaves out and s therefore has as
// default, in the order of the reference. Fields that do not apply are left out,
// as are those that come from the model's config.
func Defaults(text []byte, s *Spec) []Default {
	given, all := parseYAML(text, &collector{}), parseYAML(s.Canonical(), &collector{})
	if given == nil {
		return nil // no spec
	}
	var list []Default
	var walk func(fields []field, given, all *node, path string)
	walk = func(fields []field, given, all *node, path string) {
		for _, f := range fields {
			value := all.find(f.name)
			var own *node
			if given != nil {
				own = given.find(f.name)
			}
			switch sub := join(path, f.name); {
			case value == nil:
			case f.fields != nil:
				walk(f.fields, own, value, sub)
			case own == nil && !(s.From != "" && path == "" && slices.Contains(taken, f.name)):
				list = append(list, Default{sub, value.plain()})
			}
		}
	}
	walk(fields(&Spec{}), given, all, "")
	return list
}

// plain is a value as it is written in a spec.
func (n *node) plain() string {
	if n.kind != kindList {
		return n.text
	}
	items := make([]string, len(n.items))
	for i, item := range n.items {
		items[i] = item.text
	}
	return flow(items)
}
