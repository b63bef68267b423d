package tests

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestGeneratedCUDA: docs/generated-cuda.md names what is in the file that it is
// about, all of its kernels, and its sections in their order.
func TestGeneratedCUDA(t *testing.T) {
	read := func(name string) string {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	source, page := read("../generated/deepseekv3ep8/moe_moegen.cu"), read("../docs/generated-cuda.md")
	prose := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, "")
	names := 0
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(prose, -1) {
		name := m[1]
		if strings.ContainsAny(name, "/ ") || strings.HasPrefix(name, ".") || name == "nvls" { // files, commands
			continue
		}
		names++
		if !regexp.MustCompile(`(^|\W)` + regexp.QuoteMeta(name) + `($|\W)`).MatchString(source) {
			t.Errorf("the page names %s, which is not in the file", name)
		}
	}
	if names < 50 {
		t.Errorf("only %d names were looked for", names)
	}
	for _, m := range regexp.MustCompile(`\b(moegen_\w+)\(`).FindAllStringSubmatch(source, -1) {
		family := strings.NewReplacer("_nvls", "_p2p", "first_dispatch_ll", "first_dispatch_p2p").Replace(m[1])
		if !strings.Contains(prose, "`"+family+"`") {
			t.Errorf("the page does not tell of %s", m[1])
		}
	}
	var sections, told []string
	for _, m := range regexp.MustCompile(`(?m)^// ---- (.*?) -+$`).FindAllStringSubmatch(source, -1) {
		sections = append(sections, m[1])
	}
	_, table, _ := strings.Cut(prose, "| section of the file |")
	table, _, _ = strings.Cut(table, "\n\n")
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z].*?) \|`).FindAllStringSubmatch(table, -1) {
		told = append(told, m[1])
	}
	if a, b := strings.Join(sections, "\n"), strings.Join(told, "\n"); a != b {
		t.Errorf("the file's sections are\n%s\nand the page's\n%s", a, b)
	}
}
