package spec

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
)

// stricter lists what the Go validator refuses and the schema cannot or does not,
// by what the message says. Everything else that Go refuses, the schema does too.
var stricter = map[string]string{
	"in plain decimal digits":      "8.0 and 4e3 are whole numbers to JSON Schema",
	"a row of":                     "by dtype the schema knows, but not where dtype is wrong as well",
	"fewer experts than":           "compares two fields",
	"too many experts for routing": "compares two fields",
	"the gather buffer":            "multiplies four fields",
	"allowed: fp32)":               "wire: one of two, by dtype",
	"allowed: bf16, fp32)":         "wire: one of two, by dtype",
	"allowed: fp16, fp32)":         "wire: one of two, by dtype",
	"fewer than max_tokens":        "compares two fields",
	"required with":                "depends on another field",
	"means nothing without":        "depends on another field",
	"cannot be quantised again":    "depends on another field",
	"needs a hidden_dim that":      "divides one field by another",
	"is not a multiple of":         "divides one field by another",
	"comes before":                 "epilogues in the order in which they apply",
	"allowed: 1ms..10m":            "compares durations",
	"other YAML readers":           "yes and no are text to YAML 1.2",
	"a config is only read":        "where the spec lies",
	"there is no such file":        "reads the file",
	"says":                         "reads the config",
	"ambiguous":                    "reads the config",
	"dense model":                  "reads the config",
	"has none of the keys":         "reads the config",
	"not JSON":                     "reads the config",
	"a model's config.json":        "reads the config",
	"config.json:":                 "reads the config",
}

// excuses are the stricter ones that were needed.
type excuses map[string]bool

func (used excuses) take(e *Error) bool {
	ok := false
	for text := range stricter {
		if strings.Contains(e.Error(), text) {
			used[text], ok = true, true
		}
	}
	return ok
}

// The schema accepts every spec that Go accepts, and where Go alone refuses one
// it is for a reason in the list, which has none that is not needed.
func TestSchemaAgrees(t *testing.T) {
	schema, used := resolved(t), excuses{}
	t.Run("files", func(t *testing.T) { agreeOnFiles(t, schema, used) })
	t.Run("random", func(t *testing.T) { agreeAtRandom(t, schema, used) })
	for text := range stricter {
		if !used[text] {
			t.Errorf("nothing is refused with %q that the schema accepts: strike it from the list", text)
		}
	}
}

func resolved(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	s := makeSchema(t)
	s.ID = "" // to an http: address it would have to be loaded
	r, err := s.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// instance returns the JSON value that an editor takes a spec for; ok is false
// where the file is no YAML that specs may use, so that no schema gets to see it.
func instance(data []byte) (v any, ok bool) {
	c := &collector{file: "x"}
	data, ok = checkText(data, c)
	if !ok {
		return nil, false
	}
	top := parseYAML(data, c)
	if top == nil || len(c.errs) > 0 {
		return nil, false
	}
	return top.json(), true
}

func (n *node) json() any {
	switch n.kind {
	case kindInt, kindFloat:
		if i, err := strconv.ParseInt(n.text, 0, 64); err == nil {
			return float64(i)
		}
		if f, err := strconv.ParseFloat(n.text, 64); err == nil {
			return f
		}
		return n.text
	case kindBool:
		return n.text == "true"
	case kindNull:
		return nil
	case kindList:
		l := []any{}
		for _, i := range n.items {
			l = append(l, i.json())
		}
		return l
	case kindMap:
		m := map[string]any{}
		for _, k := range n.keys {
			m[k.name] = k.value.json()
		}
		return m
	}
	return n.text
}

// agree checks one spec: what Go accepts the schema accepts, and what only Go
// refuses has an excuse. It returns whether Go accepts it.
func (used excuses) agree(t *testing.T, schema *jsonschema.Resolved, name string, data []byte, refusal error) bool {
	t.Helper()
	v, ok := instance(data)
	if !ok {
		if refusal == nil {
			t.Errorf("%s: accepted, but no YAML", name)
		}
		return false
	}
	verdict := schema.Validate(v)
	switch {
	case refusal == nil && verdict != nil:
		t.Errorf("%s: Go accepts it, and the schema says %v\n%s", name, verdict, data)
	case refusal != nil && verdict == nil:
		for _, e := range refusal.(ErrorList) {
			if !used.take(e) {
				t.Errorf("%s: the schema accepts it, and Go says %v\n%s", name, e, data)
			}
		}
	}
	return refusal == nil
}

// Every spec in the repository, good or bad.
func agreeOnFiles(t *testing.T, schema *jsonschema.Resolved, used excuses) {
	good, bad := 0, 0
	for _, pattern := range []string{"presets/*.yaml", "testdata/bad/*.yaml", "../generated/*/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Errorf("no files %s: %v", pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, refusal := Load(file)
			if used.agree(t, schema, file, data, refusal) {
				good++
			} else {
				bad++
			}
		}
	}
	for _, name := range Presets() {
		data, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		_, refusal := Parse(name+".yaml", data)
		used.agree(t, schema, name, data, refusal)
	}
	for _, rest := range []string{
		"dispatch: {input: fp8_e4m3, scale_dtype: fp32, scale_block: 128}\n",
		"combine: {epilogue: [residual, scale, add_shared], scale: 2.5}\n",
	} {
		data := []byte("hidden_dim: 2064\ntopk: 8\ndtype: bf16\nep_size: 8\n" + rest)
		_, refusal := Parse("x.yaml", data)
		used.agree(t, schema, "x.yaml", data, refusal)
	}
	archives, err := filepath.Glob("testdata/from/from*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range archives {
		files := archive(t, file)
		t.Chdir(unpack(t, files...))
		_, refusal := Load("moe.yaml")
		used.agree(t, schema, file, files[0].Data, refusal)
		t.Chdir(testDir)
		bad++
	}
	if good < 20 || bad < 50 {
		t.Errorf("only %d good and %d bad specs", good, bad)
	}
}

// Specs made at random of values at and beyond every limit.
func agreeAtRandom(t *testing.T, schema *jsonschema.Resolved, used excuses) {
	random := rand.New(rand.NewPCG(1, 2))
	values := map[string][]string{}
	var names func([]field, string)
	names = func(list []field, path string) {
		for _, f := range list {
			sub := join(path, f.name)
			if f.fields != nil {
				names(f.fields, sub)
				continue
			}
			values[sub] = edges(sub)
		}
	}
	names(fields(&Spec{}), "")
	paths := slices.Sorted(maps.Keys(values))
	accepted := 0
	const rounds = 4000
	for range rounds {
		spec := map[string]string{"hidden_dim": "1024", "topk": "2", "dtype": "bf16", "ep_size": "2"}
		for range 1 + random.IntN(3) {
			path := paths[random.IntN(len(paths))]
			spec[path] = values[path][random.IntN(len(values[path]))]
			switch random.IntN(30) {
			case 0:
				delete(spec, path)
			case 1:
				spec[path] = []string{"null", "true", "[]", "{}", "1.5", "text", `""`, "8", "8.0", "0x10", `"8"`}[random.IntN(11)]
			}
		}
		data := write(spec)
		_, refusal := Parse("x.yaml", data)
		if used.agree(t, schema, "random", data, refusal) {
			accepted++
		}
		if t.Failed() {
			return
		}
	}
	if accepted < rounds/10 || accepted > rounds*9/10 {
		t.Errorf("%d of %d specs are good: too few of the others", accepted, rounds)
	}
}

// edges returns values of a field, good and bad.
func edges(path string) []string {
	var out []string
	if r, ok := ranges[path]; ok {
		for _, n := range []int{r.lo - 1, r.lo, r.lo + 1, (r.lo + r.hi) / 2, r.hi, r.hi + 1, 16} {
			out = append(out, strconv.Itoa(n))
		}
		return out
	}
	if floatRange[path] != "" {
		return []string{"0", "1", "1.5", "-1", "1e-6", "1e7", "-2e6", ".inf", "text"}
	}
	if allowed := allowedText[path]; allowed != "" {
		all := strings.Split(allowed, ", ")
		for _, v := range all {
			if path == "arch" || path == "transports" || path == "combine.epilogue" {
				out = append(out, "["+v+"]")
			} else {
				out = append(out, v, v)
			}
		}
		return append(out, strings.ToUpper(all[0]), "["+allowed+"]", "["+all[0]+", "+all[0]+"]")
	}
	return append(out, "2s", "1h", "1us", "+3s", "-3s", "1m30s", ".5s", "2", "a.b-c", "-a", "yes", strings.Repeat("a", 65), "config.json", "/config.json")
}

// write returns a spec with dotted keys as YAML.
func write(spec map[string]string) []byte {
	var b bytes.Buffer
	section := ""
	for _, path := range slices.Sorted(maps.Keys(spec)) {
		outer, inner, nested := strings.Cut(path, ".")
		if !nested {
			fmt.Fprintf(&b, "%s: %s\n", path, spec[path])
			continue
		}
		if section != outer {
			section = outer
			fmt.Fprintf(&b, "%s:\n", outer)
		}
		fmt.Fprintf(&b, "  %s: %s\n", inner, spec[path])
	}
	return b.Bytes()
}
