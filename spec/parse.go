package spec

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Load reads and checks the spec in a file, the model's config.json that its from
// names, and the plan beside it, if there is one. An error about what they say is an [ErrorList], in which each error
// names its file; any other is about reading a file.
func Load(path string) (*Spec, error) {
	s, err := LoadUnplanned(path)
	if err != nil {
		return nil, err
	}
	if err := loadPlan(path, s); err != nil {
		return nil, err
	}
	return s, nil
}

// LoadUnplanned is [Load] without the plan, which may be one for an older spec.
func LoadUnplanned(path string) (*Spec, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	defer f.Close()
	c := &collector{file: path}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > maxFileSize {
		c.add(pos{1, 1}, tooLarge(info.Size()))
		return nil, c.err()
	}
	// A pipe or a growing file has no size to trust: stop reading at the limit.
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("read spec: %w", err)
	}
	if len(data) > maxFileSize {
		c.add(pos{1, 1}, tooLarge(-1))
		return nil, c.err()
	}
	return parse(path, data, loadConfig)
}

// Parse checks the spec in data. The file's name is for error messages and for
// the default of Model; nothing is read, so that a spec with a from is refused:
// only [Load] follows it. The error is an [ErrorList].
func Parse(file string, data []byte) (*Spec, error) {
	return parse(file, data, nil)
}

// parse is Parse with a way to read what from names, by its path.
func parse(file string, data []byte, load func(path string) (*config, error)) (*Spec, error) {
	c := &collector{file: file}
	data, ok := checkText(data, c)
	if !ok {
		return nil, c.err()
	}
	top := parseYAML(data, c)
	if top == nil {
		return nil, c.err()
	}
	r := newReport(c, top.pos)
	s := defaults(file)
	if err := follow(top, file, r, load); err != nil {
		return nil, err
	}
	if decode(top, s, r) {
		followOthers(s, r)
		check(s, r)
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	s.normalise()
	return s, nil
}

// followOthers gives a value to fields whose default depends on others.
func followOthers(s *Spec, r *report) {
	given := func(path string) bool { _, ok := r.where[path]; return ok }
	if !given("combine.wire") {
		s.Combine.Wire = s.DType
	}
	if !given("combine.output") {
		s.Combine.Output = s.DType
	}
	if !given("combine.rmsnorm.eps") && s.Combine.Has(RMSNorm) {
		s.Combine.RMSNorm.Eps = 1e-6
	}
}

// Validate checks a spec that was built or changed in Go, where nothing has a
// default, and puts Arch and Transports in order. Its errors, an [ErrorList],
// have no positions.
func (s *Spec) Validate() error {
	c := &collector{}
	check(s, newReport(c, pos{}))
	if err := c.err(); err != nil {
		return err
	}
	s.normalise()
	return nil
}

// defaults returns what a spec says where it says nothing.
func defaults(file string) *Spec {
	return &Spec{
		Version:      Version,
		Model:        modelName(file),
		MaxTokens:    512,
		RoutingDType: Int32,
		ProbsDType:   FP32,
		Layout:       Compact,
		RoutingFill:  FillNone,
		Dispatch:     Dispatch{Quantize: QuantizeNone},
		Combine:      Combine{Order: OrderAny}, // Wire and Output follow DType
		Arch:         append([]string(nil), archs...),
		Transports:   append([]Transport(nil), transports...),
		SMLimit:      32,
		Timeout:      2 * time.Second,
	}
}

// modelName makes a model's name of a file's.
func modelName(file string) string {
	name := filepath.Base(filepath.ToSlash(file))
	name = strings.TrimSuffix(name, filepath.Ext(name))
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && modelChar(byte(r)) {
			return r
		}
		return '-'
	}, name)
	name = strings.TrimLeft(name, "._-")
	name = name[:min(len(name), maxModel)]
	return orElse(name, "model")
}

func orElse[T ~string](v, otherwise T) T {
	if v == "" {
		return otherwise
	}
	return v
}
