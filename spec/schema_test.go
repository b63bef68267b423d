package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
)

// moegen.schema.json is what the Go types, the table of fields and the tables of
// allowed values say. Nothing is written twice: to change it, change those and
// run go test ./spec -run Schema -update.
func TestSchema(t *testing.T) {
	schema := makeSchema(t)
	data, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	const file = "moegen.schema.json"
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s differs (-file +now; -update rewrites it):\n%s", file, diff)
	}
	if !strings.HasSuffix(SchemaURL, "/spec/"+file) {
		t.Errorf("specs point editors to %s", SchemaURL)
	}
}

// patterns are the texts that are neither one of a few nor free.
var patterns = map[string]string{
	"model":   `^[A-Za-z0-9][A-Za-z0-9._-]*$`,
	"from":    `^[^/]`,
	"timeout": `^\+?(([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`,
}

// wholes are the numbers that are one of a few.
var wholes = map[string][]int{"dispatch.scale_block": scaleBlocks}

var floatSpan = regexp.MustCompile(`^(\S+)\.\.([^,\s]+)(?:, not 0)?$`)

func makeSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.ForType(reflect.TypeFor[Spec](), &jsonschema.ForOptions{
		TypeSchemas: map[reflect.Type]*jsonschema.Schema{reflect.TypeFor[time.Duration](): {Type: "string"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	g := &schemaMaker{t: t, docs: readDocs(t)}
	def := defaults("")
	def.Model = "" // follows the file's name
	g.object(schema, fields(&Spec{}), "", reflect.ValueOf(*def))
	schema.Schema = "http://json-schema.org/draft-07/schema#" // what YAML language servers read
	schema.ID = SchemaURL
	schema.Title = "moegen spec, version " + strconv.Itoa(Version)
	schema.Description = "The shape of a mixture-of-experts model, from which moegen generates the exchange of its tokens."
	g.alternatives(schema)
	return schema
}

type schemaMaker struct {
	t    *testing.T
	docs *goDocs
}

// object turns the schema of a Go struct into that of the mapping that fields
// describes: the keys' names, and what the language says of their values.
func (g *schemaMaker) object(s *jsonschema.Schema, fields []field, path string, def reflect.Value) {
	byName := map[string]string{} // hiddendim -> HiddenDim
	for name := range s.Properties {
		byName[strings.ToLower(name)] = name
	}
	properties := map[string]*jsonschema.Schema{}
	s.Required, s.PropertyOrder = nil, nil
	for _, f := range fields {
		goName, ok := byName[strings.ReplaceAll(f.name, "_", "")]
		if !ok {
			g.t.Fatalf("%s: no field of %s has this name, but for case and _", f.name, def.Type())
		}
		p := s.Properties[goName]
		properties[f.name] = p
		s.PropertyOrder = append(s.PropertyOrder, f.name)
		if f.required && !slices.Contains(taken, f.name) {
			s.Required = append(s.Required, f.name)
		}
		p.Description = g.docs.field(def.Type().Name(), goName)
		g.value(p, f, join(path, f.name), def.FieldByName(goName))
	}
	if len(properties) != len(s.Properties) {
		g.t.Errorf("%s has %d fields, the language %d", def.Type(), len(s.Properties), len(properties))
	}
	s.Properties = properties
}

// value says what the language allows in one field.
func (g *schemaMaker) value(p *jsonschema.Schema, f field, path string, def reflect.Value) {
	if def.Kind() == reflect.Struct {
		g.object(p, f.fields, path, def)
		return
	}
	one := p // what holds of the value, or of each of a list
	typ := def.Type().Name()
	if def.Kind() == reflect.Slice {
		typ = def.Type().Elem().Name()
		p.Type, p.Types = "array", nil
		p.UniqueItems = true
		if def.Len() > 0 { // a default that is not empty can only be narrowed
			p.MinItems = jsonschema.Ptr(1)
		}
		one = p.Items
	}
	if few, ok := wholes[path]; ok {
		for _, n := range few {
			p.Enum = append(p.Enum, n)
		}
	} else if r, ok := ranges[path]; ok {
		p.Minimum, p.Maximum = jsonschema.Ptr(float64(r.lo)), jsonschema.Ptr(float64(r.hi))
	} else if allowed, ok := allowedText[path]; ok {
		var docs []string
		for v := range strings.SplitSeq(allowed, ", ") {
			one.Enum = append(one.Enum, v)
			doc := g.docs.values[typ+" "+v]
			docs = append(docs, doc)
			if n, err := strconv.Atoi(v); err == nil { // a word that YAML takes for a number
				one.Type, one.Types = "", []string{"string", "integer"}
				one.Enum, docs = append(one.Enum, n), append(docs, doc)
			}
		}
		if strings.Join(docs, "") != "" {
			one.Extra = map[string]any{"enumDescriptions": docs}
		}
	} else if pattern, ok := patterns[path]; ok {
		p.Pattern = pattern
	} else if m := floatSpan.FindStringSubmatch(floatRange[path]); m != nil {
		lo, errLo := strconv.ParseFloat(m[1], 64)
		hi, errHi := strconv.ParseFloat(m[2], 64)
		if err := errors.Join(errLo, errHi); err != nil {
			g.t.Error(err)
		}
		p.Minimum, p.Maximum = &lo, &hi
	} else {
		g.t.Errorf("%s has neither a range nor allowed values nor a pattern", path)
	}
	if path == "model" {
		p.MaxLength = jsonschema.Ptr(maxModel)
	}
	if !def.IsZero() {
		var text any = def.Interface()
		if d, ok := text.(time.Duration); ok {
			text = d.String()
		}
		data, err := json.Marshal(text)
		if err != nil {
			g.t.Fatal(err)
		}
		p.Default = data
	}
}

// alternatives says what fields mean for each other: the numbers are given or
// taken from a config, and rows are whole vectors.
func (g *schemaMaker) alternatives(s *jsonschema.Schema) {
	var numbers []string
	for _, f := range fields(&Spec{}) {
		if f.required && slices.Contains(taken, f.name) {
			numbers = append(numbers, f.name)
		}
	}
	s.AnyOf = []*jsonschema.Schema{{Required: numbers}, {Required: []string{"from"}}}
	for _, d := range dtypes {
		var is any = string(d)
		step := rowAlign / d.Size()
		s.AllOf = append(s.AllOf, &jsonschema.Schema{
			If: &jsonschema.Schema{Required: []string{"dtype"}, Properties: map[string]*jsonschema.Schema{"dtype": {Const: &is}}},
			Then: &jsonschema.Schema{Properties: map[string]*jsonschema.Schema{"hidden_dim": {
				MultipleOf: jsonschema.Ptr(float64(step)), Minimum: jsonschema.Ptr(float64(step)), Maximum: jsonschema.Ptr(float64(maxRow / d.Size()))}}},
		})
	}
}

// goDocs is what the package's source says in comments.
type goDocs struct {
	structs map[string]map[string]string // type -> field -> text
	values  map[string]string            // type and value of a constant -> text
	names   map[string]string            // Go's name to the language's
}

func readDocs(t *testing.T) *goDocs {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), "spec.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	d := &goDocs{structs: map[string]map[string]string{}, values: map[string]string{}, names: map[string]string{}}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			if s, ok := n.Type.(*ast.StructType); ok {
				d.structs[n.Name.Name] = map[string]string{}
				for _, f := range s.Fields.List {
					d.structs[n.Name.Name][f.Names[0].Name] = f.Doc.Text()
				}
			}
		case *ast.ValueSpec:
			if lit, ok := n.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				value, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				name := n.Names[0].Name
				if typ, ok := n.Type.(*ast.Ident); ok {
					d.values[typ.Name+" "+value] = strings.TrimPrefix(plain(strings.TrimPrefix(n.Doc.Text(), name+" ")), "is ")
				}
				d.names[name] = value
			}
		}
		return true
	})
	var walk func([]field)
	walk = func(list []field) {
		for _, f := range list {
			for _, byName := range d.structs {
				for name := range byName {
					if strings.EqualFold(name, strings.ReplaceAll(f.name, "_", "")) {
						d.names[name] = f.name
					}
				}
			}
			walk(f.fields)
		}
	}
	walk(fields(&Spec{}))
	for key, text := range d.values {
		_, value, _ := strings.Cut(key, " ")
		d.values[key] = goName.ReplaceAllStringFunc(text, func(word string) string {
			if word == strings.ToUpper(value) { // NCCL is the name of what nccl means, too
				return word
			}
			return d.translate(word)
		})
	}
	return d
}

var docLink = regexp.MustCompile(`\[([A-Za-z.]+)\]`)

// plain makes one line of a comment.
func plain(text string) string {
	return strings.Join(strings.Fields(docLink.ReplaceAllString(text, "$1")), " ")
}

var goName = regexp.MustCompile(`\b[A-Z][A-Za-z0-9]*\b`)

// field returns the comment of a field in the words of the language.
func (d *goDocs) field(typ, name string) string { return d.translate(plain(d.structs[typ][name])) }

// translate puts a text into the words of the language: EPSize is ep_size there,
// and BF16 bf16.
func (d *goDocs) translate(text string) string {
	return goName.ReplaceAllStringFunc(text, func(word string) string {
		if n, ok := d.names[word]; ok {
			return n
		}
		return word
	})
}
