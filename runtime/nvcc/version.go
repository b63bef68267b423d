package nvcc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrTooOld is what errors.Is finds when a compiler is older than MinVersion.
var ErrTooOld = errors.New("nvcc is too old")

// MinVersion is the oldest compiler accepted: the first that knows sm_100a.
const MinVersion = "12.8"

// versionTimeout bounds `nvcc --version`, which may be on a slow network disk.
const versionTimeout = 30 * time.Second

// askVersion runs the compiler to learn its version.
func askVersion(ctx context.Context, path string) (string, error) {
	limited, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(limited, path, "--version")
	killGroup(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		} else if limited.Err() != nil {
			err = fmt.Errorf("no answer within %v", versionTimeout)
		}
		return "", fmt.Errorf("nvcc: %s --version: %w%s", path, err, firstLine(": ", string(out)))
	}
	version, err := parseVersion(string(out))
	if err != nil {
		return "", fmt.Errorf("nvcc: %s: %w", path, err)
	}
	if compareVersions(version, MinVersion) < 0 {
		return "", fmt.Errorf("nvcc: %s is version %s: %w, moegen needs %s or newer", path, version, ErrTooOld, MinVersion)
	}
	return version, nil
}

var (
	fullVersion    = regexp.MustCompile(`(?m)release \d+\.\d+, V(\d+\.\d+\.\d+)\s*$`)
	releaseVersion = regexp.MustCompile(`release (\d+\.\d+)`)
)

// parseVersion finds the version in the output of `nvcc --version`.
func parseVersion(out string) (string, error) {
	for _, re := range []*regexp.Regexp{fullVersion, releaseVersion} {
		if m := re.FindStringSubmatch(out); m != nil {
			return m[1], nil
		}
	}
	return "", fmt.Errorf("is not nvcc: its --version names no release%s", firstLine(": ", out))
}

// compareVersions compares dotted numbers; a missing part counts as zero.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		if c := cmp.Compare(part(as, i), part(bs, i)); c != 0 {
			return c
		}
	}
	return 0
}

func part(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, _ := strconv.Atoi(parts[i])
	return n
}

// firstLine returns prefix and the first line of text that is not blank, or nothing.
func firstLine(prefix, text string) string {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			return prefix + line
		}
	}
	return ""
}
