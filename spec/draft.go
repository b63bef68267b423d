package spec

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// SchemaURL is where the JSON Schema of specs is published. Editors find it by
// the first line of a spec, see [SchemaLine].
const SchemaURL = "https://raw.githubusercontent.com/moegen/moegen/main/spec/moegen.schema.json"

// SchemaLine starts a spec that editors with a YAML language server complete and
// check.
const SchemaLine = "# yaml-language-server: $schema=" + SchemaURL + "\n"

// Draft is what the first spec of a model is made of: its config.json, as models
// on Hugging Face have it, and what that does not say.
type Draft struct {
	Config string // path of the config.json
	// From is what the spec is to say as from: the config's path relative to where
	// the spec will lie. With "" the spec gives the config's numbers itself.
	From string

	// The zero value of the following means: what the config says, or a default.
	Model                       string // default: the config's name of the model, or of its architecture
	HiddenDim, NumExperts, TopK int
	EPSize                      int   // default 8, or NumExperts if that is less
	DType                       DType // default: the type of the model's weights
}

// DraftError says why no spec can be made of a config.json.
type DraftError struct {
	Err  ErrorList
	Open []string // the fields that the config leaves open and that Draft can give
}

func (e *DraftError) Error() string { return e.Err.Error() }

// Unwrap returns the ErrorList.
func (e *DraftError) Unwrap() error { return e.Err }

// YAML returns the text of a valid spec. What a config.json lacks or leaves
// ambiguous is a [*DraftError], as is a dense model; other errors are about
// reading it.
func (d Draft) YAML() ([]byte, error) {
	c, err := loadConfig(d.Config)
	if err != nil {
		return nil, err
	}
	if d.EPSize == 0 {
		d.EPSize = 8
		if n := max(d.NumExperts, c.number("num_experts")); n > 0 {
			d.EPSize = min(d.EPSize, n)
		}
	}
	dtype := c.fields["dtype"]
	if d.DType == "" && dtype.value != nil {
		d.DType = DType(dtype.value.text)
	}
	given := []struct {
		name string
		n    int
	}{{"hidden_dim", d.HiddenDim}, {"num_experts", d.NumExperts}, {"topk", d.TopK}}
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if d.From != "" {
		p("# What is not written here is that of %s, or has its default.", filepath.Base(d.Config))
	} else {
		p("# The numbers are those of %s. What is not written here has its default.", filepath.Base(d.Config))
	}
	p("# Set ep_size to the GPUs that you have.")
	p("version: %d", Version)
	p("model: %s", scalar(d.name(c)))
	if d.From != "" {
		p("from: %s", scalar(d.From))
	}
	for _, f := range given {
		if n := f.n; n != 0 {
			p("%s: %d", f.name, n)
		} else if n := c.number(f.name); n != 0 && d.From == "" {
			p("%s: %d", f.name, n)
		}
	}
	p("ep_size: %d", d.EPSize)
	if d.DType != "" {
		p("dtype: %s", d.DType)
	}
	text := append([]byte(SchemaLine), b.Bytes()...)

	// The same checks as of any spec; with the config, even where it is not named.
	checked := text
	if d.From == "" {
		checked = append(bytes.Clone(text), "from: config.json\n"...)
	}
	_, err = parse("spec", checked, func(string) (*config, error) { return c, nil })
	var list ErrorList
	if errors.As(err, &list) {
		e := d.explain(list, dtype)
		for _, f := range given {
			if f.n == 0 && c.fields[f.name].problem != nil {
				e.Open = append(e.Open, f.name)
			}
		}
		if d.DType == "" {
			e.Open = append(e.Open, "dtype")
		}
		return nil, e
	}
	return text, err
}

var plainScalar = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._/-]*$`)

// scalar writes text as YAML, without quotes where nobody could take it for
// something else.
func scalar(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "null", "y", "n", "yes", "no", "on", "off":
	default:
		if plainScalar.MatchString(s) {
			return s
		}
	}
	return strconv.Quote(s)
}

// explain turns errors about a spec that nobody has seen into ones about what it
// was made of.
func (d Draft) explain(list ErrorList, dtype configField) *DraftError {
	given := map[string]bool{"model": true, "ep_size": true, "hidden_dim": d.HiddenDim != 0, "num_experts": d.NumExperts != 0, "topk": d.TopK != 0, "dtype": d.DType != ""}
	e := &DraftError{}
	for _, problem := range list {
		p := *problem
		if p.Field == "dtype" && d.DType == "" {
			p = *dtype.problem
			p.Msg += "; write dtype in the spec"
			p.Allowed = allowedText["dtype"]
		}
		if p.File == "spec" && given[p.Field] {
			p.File, p.Line, p.Col = "", 0, 0
		} else if p.File == "spec" || p.Line == 0 {
			p.File, p.Line, p.Col = d.Config, 1, 1
		}
		e.Err = append(e.Err, &p)
	}
	return e
}

func (d Draft) name(c *config) string {
	if d.Model != "" {
		return d.Model
	}
	for _, name := range []string{c.name, c.modelType} {
		if name != "" {
			return modelName(name + ".x") // a version's .5 is no extension
		}
	}
	return "model"
}
