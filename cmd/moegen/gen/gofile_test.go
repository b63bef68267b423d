package gen_test

import (
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"

	"github.com/moegen/moegen/cmd/moegen/gen"
)

// typeCheck type-checks a package of this module in which the files in overlay,
// by path from the module's root, replace or add to those on disk.
func typeCheck(t *testing.T, dir string, overlay map[string]string) []packages.Error {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	cfg := &packages.Config{
		Context: t.Context(), Dir: root, Overlay: map[string][]byte{},
		Mode: packages.NeedName | packages.NeedFiles | packages.NeedImports | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo,
	}
	for path, text := range overlay {
		cfg.Overlay[filepath.Join(root, path)] = []byte(text)
	}
	pkgs, err := packages.Load(cfg, "./"+dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) != 1 {
		t.Fatalf("loaded %d packages", len(pkgs))
	}
	return pkgs[0].Errors
}

// A tensor of one model does not do for another, nor one kind for another.
func TestTypes(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it compiles package runtime")
	}
	for _, tc := range []struct{ name, body, want string }{
		{"its own", `_, _ = d.Dispatch(s, a.Local{Hidden: a.HiddenAt(0, 1), Probs: a.ProbsAt(0, 1), Routing: a.RoutingAt(0, 1)})
	h, _ := d.Combine(s, d.PartialBuffer())
	var _ a.Hidden = h`, ""},
		{"another model's tensor", `_, _ = d.Dispatch(s, a.Local{Hidden: b.HiddenAt(0, 1)})`, "cannot use b.HiddenAt(0, 1) (value of struct type b.Hidden) as a.Hidden value in struct literal"},
		{"another model's gathered tensors", `_, _ = d.Combine(s, b.Partial{})`, "cannot use b.Partial{} (value of struct type b.Partial) as a.Partial value in argument to d.Combine"},
		{"a conversion", `_ = a.Hidden(b.HiddenAt(0, 1))`, "cannot convert b.HiddenAt(0, 1) (value of struct type b.Hidden) to type a.Hidden"},
		{"hidden states for partial sums", `_, _ = d.Combine(s, a.HiddenAt(0, 1))`, "as a.Partial value in argument to d.Combine"},
		{"probabilities for routing", `_ = a.Local{Routing: a.ProbsAt(0, 1)}`, "as a.Routing value in struct literal"},
		{"a raw tensor", `_, _ = d.Combine(s, moert.Tensor{})`, "as a.Partial value in argument to d.Combine"},
		{"its inside", `_ = a.Hidden{}.t`, "cannot refer to unexported field t"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			snippet := fmt.Sprintf(`package snippet

import (
	a "github.com/moegen/moegen/generated/deepseekv3ep8"
	b "github.com/moegen/moegen/generated/mixtral8x7bep8"
	moert "github.com/moegen/moegen/runtime"
)

var _ b.Local

func _(d *a.Dispatcher, s moert.Stream) {
	_ = moert.Tensor{}
	%s
}
`, tc.body)
			checkError(t, typeCheck(t, "generated/snippet", map[string]string{"generated/snippet/snippet.go": snippet}), tc.want)
		})
	}
}

func checkError(t *testing.T, errs []packages.Error, want string) {
	t.Helper()
	all := ""
	if len(errs) > 0 {
		all = errs[len(errs)-1].Msg // the type checker's own, behind the go command's
	}
	short := strings.NewReplacer("deepseekv3ep8.", "a.", "mixtral8x7bep8.", "b.").Replace(all)
	t.Logf("the compiler says: %q", short)
	if want == "" && len(errs) > 0 || !strings.Contains(short, want) {
		t.Errorf("the errors are\n%s\nwant %q", short, want)
	}
}

// Beside another interface of package runtime, generated code does not compile.
func TestStaleRuntime(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it compiles package runtime")
	}
	const path = "runtime/program.go"
	text := string(read(t, "../../..", path))
	next := strings.ReplaceAll(text, "EnforceVersion1", "EnforceVersion2")
	if next == text {
		t.Fatalf("%s does not declare EnforceVersion1", path)
	}
	checkError(t, typeCheck(t, "generated/deepseekv3ep8", map[string]string{path: next}), "undefined: moert.EnforceVersion1")
	checkError(t, typeCheck(t, "generated/deepseekv3ep8", nil), "")
}

// Odd specs make Go that is formatted and type-checks, with and without prefix.
func TestOddGo(t *testing.T) {
	overlay := map[string]string{}
	i := 0
	for name, yaml := range oddSpecs {
		i++
		dir := t.TempDir()
		for _, o := range []gen.Options{
			{SpecFile: fmt.Sprintf("s%d.yaml", i), Prefix: fmt.Sprintf("P%d", i)},
			{SpecFile: fmt.Sprintf("x%d.yaml", i), Prefix: fmt.Sprintf("X%d", i), Package: "odd"},
		} {
			o.Spec, o.Dir, o.Package, o.NoPTX = parse(t, yaml), dir, "odd", true
			set, err := gen.Generate(t.Context(), o)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			text := set.Files[set.Name+".go"]
			if formatted, err := format.Source(text); err != nil || string(formatted) != string(text) {
				t.Errorf("%s: the Go file is not formatted: %v", name, err)
			}
			for file, data := range set.Files {
				overlay["generated/odd/"+file] = string(data)
			}
		}
	}
	if testing.Short() {
		t.Skip("not type-checked: that compiles package runtime")
	}
	for _, e := range typeCheck(t, "generated/odd", overlay) {
		t.Error(e)
	}
}

// Nothing of an option is lost between runs: a check needs no flags.
func TestCheckRemembers(t *testing.T) {
	dir := write(t, "moe.yaml", small)
	generate(t, dir, func(o *gen.Options) { o.Prefix, o.Package = "Big", "given" })
	if got := states(t, dir); got != "" {
		t.Errorf("check says %s", got)
	}
	if err := os.Remove(filepath.Join(dir, "moe_moegen.go")); err != nil {
		t.Fatal(err)
	}
	if got := states(t, dir); got != "moe_moegen.go missing" {
		t.Errorf("check says %s", got)
	}
}
