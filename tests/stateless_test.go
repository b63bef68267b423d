package tests

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// TestStateless: generated kernels have no variables that outlive a launch. The
// runtime relies on it: dispatchers of the same program share the loaded code.
func TestStateless(t *testing.T) {
	files, err := filepath.Glob("../generated/*/*.ptx")
	if err != nil || len(files) == 0 {
		t.Fatalf("no generated PTX: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ptx.Parse(file, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range m.Globals {
			if v.Space == ptx.Global {
				t.Errorf("%s has the variable %s", file, v.Name)
			}
		}
	}
}
