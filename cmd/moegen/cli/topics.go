package cli

import (
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/moegen/moegen/cmd/moegen/doctor"
	"github.com/moegen/moegen/spec"
)

//go:embed topics/*.txt
var topicFiles embed.FS

// topic is a text of moegen help that is about no one command.
type topic struct{ name, summary string }

func topics() []topic {
	return []topic{
		{"spec", "the fields of a spec"},
		{"schema", "the JSON Schema of specs, for editors without a network"},
		{"config", "specs from a model's config.json"},
		{"go-generate", "moegen in a Go repository"},
		{"build-systems", "make, ninja, Bazel"},
		{"environment", "environment variables"},
		{"exit-codes", "exit codes"},
		{"causes", "what moegen doctor knows: symptoms, causes, remedies"},
		{"man", "all of this as a man page: moegen help man > moegen.1"},
	}
}

// printTopic prints a topic; ok is false where there is none of that name.
func printTopic(w io.Writer, name string) (ok bool) {
	for _, t := range topics() {
		if t.name != name {
			continue
		}
		switch name {
		case "spec":
			printSpecTopic(w)
		case "man":
			printMan(w)
		case "schema":
			_, _ = w.Write(spec.Schema())
		case "causes":
			doctor.PrintCauses(w)
		default:
			text, err := topicFiles.ReadFile("topics/" + name + ".txt")
			if err != nil {
				panic(err) // embedded: cannot fail
			}
			_, _ = w.Write(text)
		}
		return true
	}
	return false
}

// schema is what printSpecTopic reads of the JSON Schema.
type schema struct {
	Description string          `json:"description"`
	Default     json.RawMessage `json:"default"`
	Enum        []any           `json:"enum"`
	Properties  properties      `json:"properties"`
	Items       *schema         `json:"items"`
	Minimum     *float64        `json:"minimum"`
	Maximum     *float64        `json:"maximum"`
}

// properties are in the order of the file.
type properties []property

type property struct {
	name string
	schema
}

func (p *properties) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	if _, err := dec.Token(); err != nil {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		one := property{name: fmt.Sprint(name)}
		if err := dec.Decode(&one.schema); err != nil {
			return err
		}
		*p = append(*p, one)
	}
	return nil
}

// printSpecTopic prints the fields of specs as the JSON Schema has them.
func printSpecTopic(w io.Writer) {
	var s schema
	if err := json.Unmarshal(spec.Schema(), &s); err != nil {
		panic(err) // tests have read it
	}
	fmt.Fprintf(w, `The fields of a spec

A spec is a YAML file. hidden_dim, topk, dtype and ep_size are required, or from,
dtype and ep_size (moegen help config); the rest has defaults. The first line that
"moegen init" writes lets editors with a YAML language server complete and check
it, by %s

`, spec.SchemaURL)
	printProperties(w, s.Properties, "")
}

func printProperties(w io.Writer, list properties, outer string) {
	for _, p := range list {
		name := outer + p.name
		fmt.Fprintf(w, "%s\n%s", name, wrap(p.Description, 4, 80))
		if allowed := p.allowed(); allowed != "" {
			fmt.Fprint(w, wrap("allowed: "+allowed, 4, 80))
		}
		if p.Default != nil {
			fmt.Fprintf(w, "    default: %s\n", strings.Trim(string(p.Default), `"`))
		}
		fmt.Fprintln(w)
		printProperties(w, p.Properties, name+".")
	}
}

func (s *schema) allowed() string {
	switch {
	case s.Items != nil:
		return "a list of " + s.Items.allowed()
	case s.Enum != nil:
		return strings.Trim(strings.Join(strings.Fields(fmt.Sprint(s.Enum)), ", "), "[]")
	case s.Minimum != nil:
		return fmt.Sprintf("%v..%v", *s.Minimum, *s.Maximum)
	}
	return ""
}

// wrap breaks a text into lines of at most width characters.
func wrap(text string, indent, width int) string {
	var b strings.Builder
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && indent+len(line)+1+len(word) > width {
			b.WriteString(strings.Repeat(" ", indent) + line + "\n")
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		b.WriteString(strings.Repeat(" ", indent) + line + "\n")
	}
	return b.String()
}
