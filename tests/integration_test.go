package tests

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	model "github.com/moegen/moegen/generated/deepseekv3ep2"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nvcc"
)

// The functions down to launchExperts are those of docs/integration.md.

// theirs is what another library has in device memory, each with room for
// MaxTokens rows.
type theirs struct {
	hidden, probs, routing, out moert.DevicePtr
	tokens                      moert.DevicePtr // an int32
}

func stepOn(stream moert.Stream, d *model.Dispatcher, t theirs, experts func(model.Gathered, model.Partial) error) error {
	if err := d.NextStep(moert.DeviceTokens(t.tokens)); err != nil {
		return err
	}
	gathered, err := d.Dispatch(stream, model.Local{
		Hidden:  model.HiddenAt(t.hidden, model.MaxTokens),
		Probs:   model.ProbsAt(t.probs, model.MaxTokens),
		Routing: model.RoutingAt(t.routing, model.MaxTokens),
	})
	if err != nil {
		return err
	}
	if err := experts(gathered, d.PartialBuffer()); err != nil {
		return err
	}
	return d.CombineInto(stream, d.PartialBuffer(), model.HiddenAt(t.out, model.MaxTokens))
}

// follow lets what comes on stream to wait for what is on stream from. In a
// capture of from, to joins the capture.
func follow(from, to moert.Stream) error {
	event, err := from.Device().NewEvent()
	if err != nil {
		return err
	}
	return errors.Join(from.Record(event), to.Wait(event), event.Close())
}

// captured makes a graph of work on other, a step on ours in its midst.
func captured(other, ours moert.Stream, step func() error) (moert.Graph, error) {
	if err := other.BeginCapture(); err != nil {
		return nil, err
	}
	err := errors.Join(follow(other, ours), step(), follow(ours, other))
	graph, end := other.EndCapture()
	return graph, errors.Join(err, end)
}

func launchExperts(stream moert.Stream, f driver.Function, rank int, g model.Gathered, out model.Partial) error {
	var params []byte
	for _, p := range []moert.DevicePtr{g.Hidden.Ptr(), g.Routing.Ptr(), g.Step.Total, out.Ptr()} {
		params = binary.LittleEndian.AppendUint64(params, uint64(p))
	}
	params = binary.LittleEndian.AppendUint32(params, uint32(rank))
	return stream.Launch(f, driver.LaunchConfig{Grid: driver.Dim3{X: model.MaxGathered}, Block: driver.Dim3{X: 256}}, params)
}

// TestIntegration: a step on memory that is not moegen's, inside a capture of a
// stream that is not the dispatcher's, replayed with other counts; and experts
// of one's own.
func TestIntegration(t *testing.T) {
	t.Run("copying experts", func(t *testing.T) {
		integrate(t, 2, 2, func(d *model.Dispatcher, stream moert.Stream, rank int) (func(model.Gathered, model.Partial) error, error) {
			return func(g model.Gathered, out model.Partial) error {
				return stream.CopyAsync(out.Ptr(), g.Hidden.Ptr(), model.MaxGathered*model.HiddenDim*2)
			}, nil
		})
	})
	t.Run("experts of the page", func(t *testing.T) {
		compiler, err := nvcc.Find(t.Context())
		if err != nil {
			t.Skipf("not tested, there is no nvcc (make toolchain): %v", err)
		}
		ptx := compileExperts(t, compiler)
		integrate(t, 1, 2, func(d *model.Dispatcher, stream moert.Stream, rank int) (func(model.Gathered, model.Partial) error, error) {
			module, err := d.Core().Device().LoadModule(driver.Image{Name: "experts.cu", PTX: ptx})
			if err != nil {
				return nil, err
			}
			f, err := module.Function("experts")
			return func(g model.Gathered, out model.Partial) error { return launchExperts(stream, f, rank, g, out) }, err
		})
	})
}

// integrate replays a captured step with 3, then 5 tokens of ones a rank. Even
// tokens are routed to experts of rank 0 alone, and their sums are one; odd ones to
// those of both, and their sums are both.
func integrate(t *testing.T, one, both int, experts func(*model.Dispatcher, moert.Stream, int) (func(model.Gathered, model.Partial) error, error)) {
	t.Helper()
	drv, err := moert.Open(moert.Backend{Devices: model.EPSize})
	if err != nil {
		t.Fatal(err)
	}
	group, err := moert.NewLocalGroup(drv.Devices()[:model.EPSize]...)
	if err != nil {
		t.Fatal(err)
	}
	ready := sync.WaitGroup{} // graphs are made on all ranks before any runs
	ready.Add(model.EPSize)
	err = group.Each(t.Context(), func(ctx context.Context, rank int) (err error) {
		leave := sync.OnceFunc(ready.Done)
		defer leave()
		d, err := model.NewDispatcher(ctx, group, rank)
		if err != nil {
			return err
		}
		defer d.Close()
		dev := d.Core().Device()
		other, err1 := dev.NewStream()
		ours, err2 := d.Core().NewStream()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		defer other.Close()
		defer ours.Close()
		var b theirs
		for at, size := range map[*moert.DevicePtr]uint64{&b.hidden: model.HiddenDim * 2, &b.probs: model.TopK * 4, &b.routing: model.TopK * 4, &b.out: model.HiddenDim * 2, &b.tokens: 4} {
			if *at, err = dev.Alloc(size * model.MaxTokens); err != nil {
				return err
			}
			defer dev.Free(*at)
		}
		var ids []byte
		for i := range model.MaxTokens * model.TopK {
			row, k := i/model.TopK, i%model.TopK
			ids = binary.LittleEndian.AppendUint32(ids, uint32(k+row%2*k*(model.NumExperts/model.TopK-1)))
		}
		ones := bytes.Repeat([]byte{0x80, 0x3f}, model.MaxTokens*model.HiddenDim)
		if err := errors.Join(dev.Write(b.hidden, ones), dev.Write(b.routing, ids)); err != nil {
			return err
		}
		run, err := experts(d, ours, rank)
		if err != nil {
			return err
		}
		graph, err := captured(other, ours, func() error { return stepOn(ours, d, b, run) })
		if err != nil {
			return err
		}
		exec, err := graph.Instantiate()
		if err != nil {
			return err
		}
		defer exec.Close()
		leave()
		ready.Wait()
		for _, tokens := range []int{3, 5} {
			if err := errors.Join(dev.Write(b.out, make([]byte, len(ones))), dev.Write(b.tokens, binary.LittleEndian.AppendUint32(nil, uint32(tokens))),
				exec.Launch(other), d.Synchronize(other)); err != nil {
				return err
			}
			got := make([]byte, (tokens+1)*model.HiddenDim*2)
			if err := dev.Read(got, b.out); err != nil {
				return err
			}
			bf16 := map[int][]byte{0: {0, 0}, 1: {0x80, 0x3f}, 2: {0x00, 0x40}}
			for row := range tokens + 1 {
				sum := []int{one, both}[row%2]
				if row == tokens { // none
					sum = 0
				}
				if !bytes.Equal(got[row*model.HiddenDim*2:][:model.HiddenDim*2], bytes.Repeat(bf16[sum], model.HiddenDim)) {
					return fmt.Errorf("rank %d, %d tokens: row %d is not %d", rank, tokens, row, sum)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// compileExperts compiles the page's kernel with the generated header, and with
// all of its host code.
func compileExperts(t *testing.T, compiler *nvcc.Compiler) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, b := range blocks(t, "integration.md") {
		if b.file == "experts.cu" {
			if err := os.WriteFile(filepath.Join(dir, b.file), []byte(b.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, args := range [][]string{{"-c", "-o", "experts.o"}, {"-ptx", "-o", "experts.ptx"}} {
		root, err := filepath.Abs("../generated/deepseekv3ep2")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(compiler.Path, append(args, "-std=c++17", "-arch=sm_90a", "-Werror", "all-warnings", "-I", root, "experts.cu")...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nvcc %v: %v\n%s", args, err, out)
		}
	}
	ptx, err := os.ReadFile(filepath.Join(dir, "experts.ptx"))
	if err != nil {
		t.Fatal(err)
	}
	return ptx
}

// TestIntegrationCode: the page's Go functions are those above, and its cgo file
// builds against the C file.
func TestIntegrationCode(t *testing.T) {
	tested, err := os.ReadFile("integration_test.go")
	if err != nil {
		t.Fatal(err)
	}
	functions, files := 0, map[string]string{}
	for _, b := range blocks(t, "integration.md") {
		switch {
		case b.file != "":
			files[b.file] = b.text
		case b.kind == "go":
			functions++
			if !strings.Contains(string(tested), b.text) {
				t.Errorf("line %d: tests/integration_test.go does not have this code", b.line)
			}
		}
	}
	if functions < 3 {
		t.Errorf("the page has %d functions", functions)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	gomod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	gosum, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	_, requires, _ := strings.Cut(string(gomod), "\n\n")
	for name, text := range map[string]string{
		"go.mod":     "module example.com/engine\n\nrequire github.com/moegen/moegen v0.0.0\nreplace github.com/moegen/moegen => " + root + "\n" + requires,
		"go.sum":     string(gosum),
		"experts.go": files["experts.go"],
		// In place of nvcc's object: what the linker wants.
		"experts.c": "#include <stdint.h>\nint launch_experts(int d, uintptr_t s, const void *h, const void *r, const void *n, void *p, int k) { return 0; }\nint follow(int d, uintptr_t from, uintptr_t to) { return 0; }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"vet", "-mod=mod", "."}, {"build", "-mod=mod", "."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=1", "CGO_LDFLAGS_ALLOW=.*")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("go %v: %v\n%s", args, err, out)
		}
	}
}
