package cli

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

const versionHelp = `Usage: moegen version

Prints the version of the module, the revision it was built from, and the
compiler.
`

func version(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	f := newFlags("version", versionHelp)
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	if f.NArg() > 0 {
		return usageError(stderr, f, "takes no arguments")
	}
	info, _ := debug.ReadBuildInfo()
	fmt.Fprintln(stdout, versionText(info))
	return exitOK
}

// versionText is the line that version prints; info may be nil.
func versionText(info *debug.BuildInfo) string {
	if info == nil {
		return "moegen (built without module information)"
	}
	text := []string{"moegen", info.Main.Version}
	if info.Main.Version == "" {
		text[1] = "(devel)"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if r := settings["vcs.revision"]; r != "" {
		if settings["vcs.modified"] == "true" {
			r += "+changes"
		}
		text = append(text, r)
	}
	text = append(text, info.GoVersion, settings["GOOS"]+"/"+settings["GOARCH"])
	if tags := settings["-tags"]; tags != "" {
		text = append(text, "tags "+tags)
	}
	return strings.Join(text, " ")
}
