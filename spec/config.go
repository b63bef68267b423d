package spec

import (
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The names that models' config.json files have for what a spec needs, most
// frequent first. A dot leads into a mapping.
var (
	hiddenKeys  = []string{"hidden_size", "d_model", "n_embd"}
	expertsKeys = []string{"n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts", "num_moe_experts", "ffn_config.moe_num_experts"}
	topkKeys    = []string{"num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts", "ffn_config.moe_top_k"}
	dtypeKeys   = []string{"torch_dtype", "dtype"}
	latentKeys  = []string{"moe_latent_size", "routed_expert_hidden_size"}
	// textKeys are where models that also see or hear keep the language model.
	textKeys = []string{"text_config", "llm_config", "language_config", "thinker_config.text_config"}
)

// config is what a Hugging Face config.json says of a model's shape.
type config struct {
	file      string
	modelType string
	name      string // of the model, "" where the file does not tell
	fields    map[string]configField
}

// configField is one field of a spec as a config gives it: a value, or why there
// is none.
type configField struct {
	value   *node // a number; of dtype, our name for it
	key     string
	problem *Error // with its file and place; without a place it is about the whole file
	dense   bool   // the problem is that the model has no experts
}

// taken are the fields that from takes from a config.
var taken = []string{"hidden_dim", "num_experts", "topk"}

// loadConfig reads a config.json. Its errors are an [ErrorList] or about reading
// the file.
func loadConfig(file string) (*config, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the model's config: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the model's config: %w", err)
	}
	return parseConfig(file, data)
}

// parseConfig is loadConfig of a file's text. Its errors are an [ErrorList].
func parseConfig(file string, data []byte) (*config, error) {
	c := &collector{file: file}
	if len(data) > maxFileSize {
		c.add(pos{1, 1}, Error{Msg: "the file is too large for a config.json", Allowed: "up to 1 MiB"})
		return nil, c.err()
	}
	top := parseJSON(data, c)
	if top == nil {
		return nil, c.err()
	}
	if top.kind != kindMap {
		c.add(top.pos, Error{Msg: "a model's config.json is an object with keys such as hidden_size", Value: top.kind.String()})
		return nil, c.err()
	}
	return readConfig(file, top), nil
}

func readConfig(file string, top *node) *config {
	r := &configReader{file: file, scopes: []*node{top}}
	for _, k := range textKeys {
		if n := top.find(strings.Split(k, ".")...); n != nil && n.kind == kindMap {
			r.scopes = append([]*node{n}, r.scopes...)
		}
	}
	c := &config{file: file, fields: map[string]configField{}}
	c.modelType = r.text("model_type")
	if name := r.text("_name_or_path"); !strings.HasPrefix(name, ".") { // else where somebody had it
		c.name = path.Base("/" + filepath.ToSlash(name))
	}
	c.name = strings.Trim(c.name, "/")
	c.fields["hidden_dim"] = r.hidden()
	c.fields["num_experts"] = r.experts(c.modelType)
	c.fields["topk"] = r.number("topk", topkKeys)
	c.fields["dtype"] = r.dtype()
	return c
}

// configReader looks for keys: in the language model's own mapping first, then
// at the top.
type configReader struct {
	file   string
	scopes []*node
}

// found is a key that is there.
type found struct {
	key   string
	value *node
}

// all returns what there is of some keys, from the first scope that has any.
func (r *configReader) all(keys []string) []found {
	for _, scope := range r.scopes {
		var list []found
		for _, k := range keys {
			if n := scope.find(strings.Split(k, ".")...); n != nil {
				list = append(list, found{k, n})
			}
		}
		if list != nil {
			return list
		}
	}
	return nil
}

func (r *configReader) text(key string) string {
	for _, scope := range slices.Backward(r.scopes) { // the top has the model's own
		if n := scope.find(key); n != nil && n.kind == kindText {
			return n.text
		}
	}
	return ""
}

func (r *configReader) problem(field string, n *node, format string, args ...any) configField {
	e := &Error{File: r.file, Field: field, Msg: fmt.Sprintf(format, args...)}
	if n != nil {
		e.Line, e.Col = n.line, n.col
	}
	return configField{problem: e}
}

// number returns the number that some keys give, if they agree on one.
func (r *configReader) number(field string, keys []string) configField {
	list := r.all(keys)
	if list == nil {
		return r.problem(field, nil, "%s has none of the keys %s", r.file, strings.Join(keys, ", "))
	}
	first := configField{}
	for _, f := range list {
		n, err := uniform(f)
		if err != nil {
			return r.problem(field, f.value, "ambiguous: %v", err)
		}
		if first.value == nil {
			first = configField{value: n, key: f.key}
		} else if n.text != first.value.text {
			return r.problem(field, n, "ambiguous: %s is %s, and %s is %s", first.key, show(first.value.text), f.key, show(n.text))
		}
	}
	return first
}

// uniform returns the one number of a value that may be a list of them, one a
// layer.
func uniform(f found) (*node, error) {
	n := f.value
	if n.kind == kindMap {
		return nil, fmt.Errorf("%s is %s", f.key, n.kind)
	}
	if n.kind != kindList {
		return n, nil
	}
	for _, item := range n.items {
		if item.kind != kindInt || item.text != n.items[0].text {
			return nil, fmt.Errorf("%s is a list whose items differ", f.key)
		}
	}
	if len(n.items) == 0 {
		return nil, fmt.Errorf("%s is an empty list", f.key)
	}
	return n.items[0], nil
}

// hidden is the width of what travels to the experts.
func (r *configReader) hidden() configField {
	f := r.number("hidden_dim", hiddenKeys)
	latent := r.all(latentKeys)
	if f.value == nil || latent == nil || latent[0].value.text == f.value.text {
		return f
	}
	l := latent[0]
	return r.problem("hidden_dim", l.value, "ambiguous: %s is %s, but the experts work on vectors of %s %s: write %s if tokens are projected before dispatch, and %s if after",
		f.key, f.value.text, l.key, show(l.value.text), show(l.value.text), f.value.text)
}

// experts is the number of routed experts; a dense model's is a problem.
func (r *configReader) experts(modelType string) configField {
	model := "this model"
	if modelType != "" {
		model = show(modelType)
	}
	dense := func(n *node, why string) configField {
		f := r.problem("num_experts", n, "%s is a dense model: %s; moegen is for mixtures of experts", model, why)
		f.dense = true
		return f
	}
	if r.all(expertsKeys) == nil {
		f := dense(nil, fmt.Sprintf("%s has none of the keys %s", r.file, strings.Join(expertsKeys, ", ")))
		f.problem.Msg += "; if it is one under other names, write num_experts and topk in the spec"
		return f
	}
	// Hybrid models say by layer what it is; the dense ones of a family may carry
	// the experts' keys all the same.
	if l := r.all([]string{"layers_block_type", "hybrid_override_pattern"}); l != nil && modelType == "nemotron_h" && !hasExpertLayer(l[0].value) {
		return dense(l[0].value, "no layer in "+l[0].key+" has experts")
	}
	if l := r.all([]string{"enable_moe_block"}); l != nil && l[0].value.text == "false" {
		return dense(l[0].value, "enable_moe_block is false")
	}
	f := r.number("num_experts", expertsKeys)
	if f.value != nil && (f.value.text == "0" || f.value.text == "1") {
		return dense(f.value, f.key+" is "+f.value.text)
	}
	return f
}

func hasExpertLayer(n *node) bool {
	return strings.Contains(n.text, "E") || slices.ContainsFunc(n.items, func(i *node) bool { return i.text == "moe" || i.text == "E" })
}

func (r *configReader) dtype() configField {
	list := r.all(dtypeKeys)
	if list == nil {
		return r.problem("dtype", nil, "%s has none of the keys %s", r.file, strings.Join(dtypeKeys, ", "))
	}
	n := list[0].value
	name := otherNames[n.text]
	if !slices.Contains(dtypes, name) {
		return r.problem("dtype", n, "%s is %s, which is not a type that tokens travel in", list[0].key, show(n.text))
	}
	return configField{value: &node{pos: n.pos, kind: kindText, text: string(name)}, key: list[0].key}
}

// merge gives the top node of a spec the fields that it takes from a config, as
// if they had been written there. from is the place that names the config.
func (c *config) merge(top *node, from pos, r *report) {
	dense := c.fields["num_experts"].dense && top.find("num_experts") == nil
	for _, field := range taken {
		f, given := c.fields[field], top.find(field)
		switch {
		case given != nil:
			if f.value != nil && given.kind == kindInt && given.text != f.value.text {
				r.where[field] = given.pos
				r.fault(field, Error{Msg: fmt.Sprintf("%s in line %d of %s says %s; leave the field out", f.key, f.value.line, c.file, show(f.value.text)),
					Value: show(given.text), Allowed: show(f.value.text)})
			}
			continue
		case f.value != nil && !(dense && field == "topk"):
			r.files[field] = c.file
			top.keys = append(top.keys, key{f.value.pos, field, f.value})
			continue
		}
		top.keys = append(top.keys, key{from, field, &node{pos: from}}) // its kind says that it is reported
		if dense && field == "topk" {
			continue // one mistake, not two
		}
		e := *f.problem
		if !f.dense {
			e.Msg += "; write " + field + " in the spec"
		}
		at := pos{e.Line, e.Col}
		if e.Line == 0 {
			e.File, at = "", from
		}
		r.add(at, e)
	}
}

// number returns a field's value, 0 where there is none.
func (c *config) number(field string) int {
	if v := c.fields[field].value; v != nil {
		n, _ := strconv.Atoi(v.text) // out of range: reported by whoever merges
		return n
	}
	return 0
}
