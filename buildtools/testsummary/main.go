// Testsummary reads the events of go test -json and prints what a person wants
// to know: failures in full, a line for each package, every skipped test with
// its reason, and the numbers of passed, failed and skipped tests. It exits
// with 1 if anything failed or nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

func main() { os.Exit(summarize(os.Stdin, os.Stdout)) }

// event is one line of go test -json, or of go build -json within it.
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

func summarize(in io.Reader, out io.Writer) int {
	passed, failed, skipped := 0, 0, 0
	output := map[string][]string{}
	var skips []string
	broken := false
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(out, lines.Text()) // not an event: a message of the go command
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			output[key] = append(output[key], e.Output)
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "build-fail":
			broken = true
		case "pass", "fail", "skip":
			lines := output[key]
			delete(output, key)
			if e.Test == "" {
				broken = broken || e.Action == "fail"
				word := map[string]string{"pass": "ok  ", "fail": "FAIL", "skip": "?   "}[e.Action]
				fmt.Fprintf(out, "%s\t%s\t%.1fs\n", word, e.Package, e.Elapsed)
				if e.Action == "fail" {
					fmt.Fprint(out, strings.Join(lines, ""))
				}
				continue
			}
			switch e.Action {
			case "pass":
				passed++
			case "fail":
				failed++
				fmt.Fprint(out, strings.Join(lines, ""))
			case "skip":
				skipped++
				skips = append(skips, e.Package+" "+e.Test+": "+reason(lines))
			}
		}
	}
	sort.Strings(skips)
	for _, s := range skips {
		fmt.Fprintln(out, "SKIPPED", s)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	if failed > 0 || broken || passed == 0 || lines.Err() != nil {
		return 1
	}
	return 0
}

// reason is what a test said when it was skipped.
func reason(lines []string) string {
	var said []string
	for _, l := range lines {
		l = strings.TrimSpace(l)
		if l != "" && !strings.HasPrefix(l, "=== ") && !strings.HasPrefix(l, "--- ") {
			said = append(said, l)
		}
	}
	return strings.Join(said, " ")
}
