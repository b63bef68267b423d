package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/layer"
	"github.com/moegen/moegen/spec"
)

// TestSameProgram: what moegen run, bench and tests make of a spec has the fields
// that a generated package's program has.
func TestSameProgram(t *testing.T) {
	specs, err := filepath.Glob("../generated/*/moe.yaml")
	if err != nil || len(specs) == 0 {
		t.Fatal(specs, err)
	}
	for _, path := range specs {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(filepath.Dir(path), "moe_moegen.go"), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		baked := map[string]bool{"PTX": true, "PTXArch": true}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if sel, ok := lit.Type.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Program" {
				return true
			}
			for _, e := range lit.Elts {
				baked[e.(*ast.KeyValueExpr).Key.(*ast.Ident).Name] = true
			}
			return false
		})
		s, err := spec.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := layer.Program(s)
		if err != nil {
			t.Fatal(err)
		}
		if !layer.UsePTX(p, path) {
			t.Errorf("%s: the PTX beside it is of another source", path)
		}
		v := reflect.ValueOf(*p)
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; baked[name] == v.Field(i).IsZero() {
				t.Errorf("%s: %s is %v here, and in the generated package: %t", path, name, v.Field(i), baked[name])
			}
		}
	}
}
