package command

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/moegen/moegen/cmd/moegen/cli"
	"github.com/moegen/moegen/runtime/nvcc"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"moegen": func() { os.Exit(cli.Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the scripts. Their machine has no GPU and no NCCL, whatever
// this one has; [nvcc] says whether there is a compiler.
func TestScripts(t *testing.T) {
	compiler, err := nvcc.Find(t.Context())
	if err != nil {
		t.Logf("scripts that compile kernels are skipped: %v", err)
	}
	cache := t.TempDir() // for all scripts: several use the same kernels
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			nowhere := filepath.Join(env.WorkDir, "nowhere")
			env.Setenv("MOEGEN_LIBCUDA", nowhere)
			env.Setenv("MOEGEN_NCCL", nowhere)
			env.Setenv("MOEGEN_CACHE_DIR", cache)
			env.Setenv("MOEGEN_NVCC", nowhere)
			if compiler != nil {
				env.Setenv("MOEGEN_NVCC", compiler.Path)
			}
			return nil
		},
		Condition: func(condition string) (bool, error) {
			return condition == "nvcc" && compiler != nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}
