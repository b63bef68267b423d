package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurityPage: every claim on the page names tests, and those exist.
func TestSecurityPage(t *testing.T) {
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", "*_test.go")
	list.Dir = ".."
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{} // by name alone, and by package's last name and name
	decl := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for _, file := range strings.Fields(string(files)) {
		text, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range decl.FindAllStringSubmatch(string(text), -1) {
			have[m[1]] = true
			have[filepath.Base(filepath.Dir(file))+"."+m[1]] = true
		}
	}
	name := regexp.MustCompile("`((?:\\w+\\.)?(?:Test|Fuzz)\\w+)(?:/[^`]*)?`")
	claims := 0
	for _, line := range strings.Split(string(page), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| claim") {
			continue
		}
		claims++
		named := name.FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("a claim without a test: %s", line)
		}
		for _, m := range named {
			if !have[m[1]] {
				t.Errorf("no test is called %s: %s", m[1], line)
			}
		}
	}
	if claims < 15 {
		t.Errorf("only %d claims were found", claims)
	}
}
