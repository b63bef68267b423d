package soak

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// config is a soak of a small shape on emulated GPUs.
func config(t *testing.T, ranks int, transport moert.Transport) Config {
	t.Helper()
	s, err := spec.Parse("soak.yaml", fmt.Appendf(nil,
		"hidden_dim: 64\ntopk: 2\ndtype: bf16\nep_size: %d\nmax_tokens: 8\nmax_prefill_tokens: 20\nnum_experts: 12\nsm_limit: 4\n", ranks))
	if err != nil {
		t.Fatal(err)
	}
	d, err := emu.New(emu.Config{Devices: ranks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return Config{
		Spec: s, Devices: d.Devices(), Transport: transport, Seed: uint64(time.Now().UnixNano() % 1e6), Least: 30,
		Options: []moert.Option{moert.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))},
	}
}

func run(t *testing.T, c Config) *Report {
	t.Helper()
	r, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	return r
}

// TestEmulated soaks for a moment, in CI.
func TestEmulated(t *testing.T) {
	for _, ranks := range []int{2, 3} {
		for _, transport := range []moert.Transport{moert.P2P, moert.NVLS} {
			t.Run(fmt.Sprintf("%s of %d", transport, ranks), func(t *testing.T) {
				c := config(t, ranks, transport)
				c.For = time.Second
				r := run(t, c)
				for _, f := range r.Faults {
					t.Error(f)
				}
				bulk := r.Steps["eager"] + r.Steps["replay"] - r.Low
				if r.Low == 0 || bulk == 0 || r.Steps["prefill"] == 0 || r.Captures < 2 {
					t.Errorf("%d steps of ll, %d of bulk, %d prefills, %d captures", r.Low, bulk, r.Steps["prefill"], r.Captures)
				}
			})
		}
	}
}

// TestMismatch: one word of one row that is wrong at some epochs of ll is found,
// and told with what leads to it.
func TestMismatch(t *testing.T) {
	c := config(t, 2, moert.P2P)
	c.Seed, c.Least = 1, 100
	c.damage = func(p *moert.Program) {
		right := []byte("(to) = Word(line);")
		if !bytes.Contains(p.Source, right) {
			t.Fatalf("the source has no %q", right)
		}
		p.Source = bytes.Replace(p.Source, right, []byte("(to) = Word(line) + (j == 1 && epoch % 8 == 0);"), 1)
	}
	r := run(t, c)
	if len(r.Faults) == 0 {
		t.Fatal("nothing was found")
	}
	for _, want := range []string{"soak from seed 1: step ", "tokens", "rank ", "gathered routing: 1 of rank"} {
		if !strings.Contains(r.Faults[0], want) {
			t.Errorf("%q does not say %q", r.Faults[0], want)
		}
	}
}

// TestLeaks: each resource that leaks is told, and no other.
func TestLeaks(t *testing.T) {
	done := make(chan struct{})
	defer close(done)
	var heap [][]byte
	var files []*os.File
	defer func() {
		for _, f := range files {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	leaks := []struct {
		want string
		leak func(*layer.Session) error
	}{
		{"leak: rank 1's device has", func(s *layer.Session) error {
			_, err := s.Member(1).Dispatcher.Device().Alloc(256)
			return err
		}},
		{"goroutines, before", func(*layer.Session) error { go func() { <-done }(); return nil }},
		{"bytes in Go's heap, before", func(*layer.Session) error { heap = append(heap, make([]byte, 256<<10)); return nil }},
		{"file descriptors, before", func(*layer.Session) error {
			f, err := os.Open(os.DevNull)
			files = append(files, f)
			return err
		}},
	}
	c := config(t, 2, moert.P2P)
	c.Least = 20
	c.meanwhile = func(s *layer.Session) {
		for _, x := range leaks {
			if err := x.leak(s); err != nil {
				t.Error(err)
			}
		}
	}
	r := run(t, c)
	if len(r.Faults) != len(leaks) || len(heap) == 0 {
		t.Fatalf("%d faults, %d were planted: %q", len(r.Faults), len(leaks), r.Faults)
	}
	for i, x := range leaks {
		if !strings.Contains(r.Faults[i], x.want) {
			t.Errorf("%q does not say %q", r.Faults[i], x.want)
		}
	}
}
