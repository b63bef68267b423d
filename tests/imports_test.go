package tests

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/moegen/moegen"

// rules says what a package may import, beyond the standard library and
// packages below itself. Prefixes end in "/".
var rules = map[string][]string{
	"spec":               {"gopkg.in/yaml.v3"},
	"templates":          {},
	"runtime":            {module + "/runtime/"},
	"runtime/driver":     {},
	"runtime/cuda":       {module + "/runtime/driver"},
	"runtime/nccl":       {module + "/runtime/driver", module + "/runtime/cuda"},
	"runtime/symm":       {module + "/runtime/driver", module + "/runtime/nccl"},
	"runtime/rendezvous": {"golang.org/x/sys/"},
	"runtime/nvcc":       {"github.com/gofrs/flock"},
	"runtime/emu":        {module + "/runtime/driver", "golang.org/x/sys/", "golang.org/x/sync/"},
	"runtime/emu/ptx":    {},
	"runtime/emu/race":   {},
	"generated/":         {module + "/runtime"},
	"cmd/moegen/gen": {module + "/spec", module + "/templates", module + "/runtime/nvcc", "github.com/dave/jennifer/jen",
		"golang.org/x/tools/", "github.com/google/renameio/v2", "github.com/gofrs/flock", "github.com/rogpeppe/go-internal/"},
}

// TestImports holds the packages to the directions in ARCHITECTURE.md. Only
// what builds into users' programs counts: tests may import anything.
func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Standard", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		rel := strings.TrimPrefix(p.ImportPath, module+"/")
		rule := rel
		if strings.HasPrefix(rel, "generated/") {
			rule = "generated/"
		}
		allowed, ok := rules[rule]
		if !ok {
			continue
		}
		seen[rule] = true
		for _, imp := range p.Imports {
			if !strings.Contains(strings.Split(imp, "/")[0], ".") || strings.HasPrefix(imp, p.ImportPath+"/") || permitted(imp, allowed) {
				continue
			}
			t.Errorf("%s must not import %s", rel, imp)
		}
	}
	for rule := range rules {
		if !seen[rule] {
			t.Errorf("no package for the rule %q: mend the rule", rule)
		}
	}
}

func permitted(imp string, allowed []string) bool {
	for _, a := range allowed {
		if imp == a || strings.HasSuffix(a, "/") && strings.HasPrefix(imp, a) {
			return true
		}
	}
	return false
}

// TestNoNetwork: what generates code cannot open a connection, which builds in
// sandboxes count on. Only groups of processes talk over the network.
func TestNoNetwork(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/moegen/gen", "./spec", "./templates")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for p := range strings.FieldsSeq(string(out)) {
		if p == "net" || p == "net/http" {
			t.Errorf("the generator imports %s", p)
		}
	}
}
