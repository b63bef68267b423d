package tests

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moegen/moegen/cmd/moegen/cli"
)

// counts are uneven token counts for two steps, with idle ranks.
var counts = map[int]string{2: "0/3,2/1", 4: "0/5/1/2,1/0/0/3", 8: "0/5/3/1/0/2/7/4,1/0/0/2/0/1/0/3"}

// TestModels verifies every generated model, with both protocols, at 2, 4 and 8
// ranks, in eager steps and graph replays, every gathered bit and every output
// element. The models' own sizes run from the checked-in PTX, the others are
// compiled.
func TestModels(t *testing.T) {
	specs, err := filepath.Glob("../generated/*/moe.yaml")
	if err != nil || len(specs) == 0 {
		t.Fatalf("no generated models: %v", err)
	}
	for _, path := range specs {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for ranks, tokens := range counts {
			t.Run(fmt.Sprintf("%s at %d", filepath.Base(filepath.Dir(path)), ranks), func(t *testing.T) {
				t.Parallel()
				// Flags over nvls, whose kernels are the ones with multimem, and marks over
				// p2p, whose polls take the emulator minutes with more than two ranks.
				ways := []string{"-transport nvls -protocol bulk"}
				if ranks == 2 {
					ways = append(ways, "-transport p2p -protocol ll -capacity 8")
				}
				for _, how := range ways {
					args := append([]string{"run", "-backend", "emu", "-tokens", tokens}, strings.Fields(how)...)
					if !strings.Contains(string(text), fmt.Sprintf("ep_size: %d\n", ranks)) {
						args = append(args, "-ranks", fmt.Sprint(ranks))
					}
					var out, errs bytes.Buffer
					if rc := cli.Run(append(args, path), strings.NewReader(""), &out, &errs); rc != 0 {
						t.Errorf("moegen %s: exit %d\n%s%s", strings.Join(args, " "), rc, errs.String(), out.String())
					}
				}
			})
		}
	}
}
