package nvcc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// maxLog bounds what is kept of the compiler's output; templates can make it endless.
const maxLog = 1 << 20

// compileIn runs the compiler in dir, which it may fill, and returns a whole image.
func (c *Compiler) compileIn(ctx context.Context, dir string, j *job) (Image, error) {
	out := "image." + string(j.target.kind())
	if err := os.WriteFile(filepath.Join(dir, j.base), j.src.Text, 0o600); err != nil {
		return Image{}, fmt.Errorf("nvcc: %s: %w: %w", j, errSource, err)
	}
	args := append(append([]string(nil), j.flags...), "-o", out, j.base)
	cmd := exec.CommandContext(ctx, c.Path, args...)
	cmd.Dir = dir
	// Intermediate files go where they are removed with the rest, whatever happens to
	// the compiler; messages are parsed, so they must not be translated.
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "LC_ALL=C")
	raw := &limitedBuffer{limit: maxLog}
	cmd.Stdout, cmd.Stderr = raw, raw
	killGroup(cmd)

	err := cmd.Run()
	if ctx.Err() != nil {
		return Image{}, fmt.Errorf("nvcc: compiling %s: %w", j, ctx.Err())
	}
	log := cleanLog(raw.buf.String(), dir, j.base, j.src.Name)
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			return Image{}, fmt.Errorf("nvcc: cannot run %s: %w", c.Path, err)
		}
		return Image{}, &CompileError{Name: j.src.Name, Arch: j.target.Arch, Cmd: append([]string{c.Path}, args...),
			Log: log, Diags: parseDiags(log), Hint: hint(log, j.target.Arch, c.Version), Err: err}
	}
	data, err := os.ReadFile(filepath.Join(dir, out))
	if err != nil {
		return Image{}, fmt.Errorf("nvcc: %s: %w: %w", j, errImage, err)
	}
	if j.target.PTX {
		data = NormalizePTX(data)
	}
	if err := checkImage(data, j.target.kind()); err != nil {
		return Image{}, fmt.Errorf("nvcc: %s: %w: %w", j, errImage, err)
	}
	return Image{Data: data, Key: j.key(c.Version), Kind: j.target.kind(), Log: log}, nil
}

// compileOutside compiles in the system's temporary directory. It is for when the
// cache's directory is of no use.
func (c *Compiler) compileOutside(ctx context.Context, j *job, why string) (Image, error) {
	dir, err := os.MkdirTemp("", "moegen-nvcc-")
	if err != nil {
		return Image{}, fmt.Errorf("nvcc: compiling %s: %w", j, err)
	}
	defer os.RemoveAll(dir)
	img, err := c.compileIn(ctx, dir, j)
	if err != nil {
		return Image{}, err
	}
	img.Warnings = append(img.Warnings, why)
	return img, nil
}

// waitDelay is how long to wait for a killed compiler's pipes to close.
const waitDelay = 5 * time.Second

// limitedBuffer keeps the first bytes that are written to it.
type limitedBuffer struct {
	buf   bytes.Buffer // not embedded: its ReadFrom would pass the limit by
	limit int
	cut   bool
}

// Write never fails, since the compiler would.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	keep := min(len(p), max(0, b.limit-b.buf.Len()))
	b.buf.Write(p[:keep])
	if keep < len(p) && !b.cut {
		b.cut = true
		b.buf.WriteString("\n[the rest of the output is left out]\n")
	}
	return len(p), nil
}
