package litmus

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/emu/race"
)

// pair is a program of two threads on two GPUs, in PTX: what the one writes the
// other reads after it has seen a flag. They find
//
//	%rd1, %rd2  the page of the first and of the second GPU, by unicast
//	%rd3        both pages, by multicast
//
// with data from byte 0 and the flag at byte 256, all 0 to start with.
type pair struct {
	name   string
	writer string // a thread of GPU 0
	reader string // a thread of GPU 1
	alias  emu.AliasRule
	// want is the kind of report that there must be, of an access in whose line
	// at stands; "" wants no report at all.
	want string
	at   string
}

const pairHead = ".version 8.6\n.target sm_90a\n.address_size 64\n" +
	".visible .entry k(.param .u64 a, .param .u64 b, .param .u64 m, .param .u32 who)\n{\n" +
	".reg .pred %p<4>;\n.reg .b32 %r<16>;\n.reg .b64 %rd<8>;\n.shared .align 128 .b8 buffer[128];\n" +
	"ld.param.u64 %rd1, [a];\nld.param.u64 %rd2, [b];\nld.param.u64 %rd3, [m];\nld.param.u32 %r1, [who];\n" +
	"setp.eq.u32 %p1, %r1, 1;\n@%p1 bra $reader;\n"

func (p pair) ptx() string {
	return pairHead + p.writer + "\nret;\n$reader:\n" + p.reader + "\nret;\n}\n"
}

// pages makes two pages that both devices reach, by unicast and by multicast.
func (b *bench) pages(t *testing.T) (at [3]driver.DevicePtr) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	devices := b.drv.Devices()
	obj, err := b.drv.CreateMulticast(2, emu.Granularity, driver.HandleNone)
	check(err)
	for _, d := range devices {
		check(obj.AddDevice(d))
	}
	mems := make([]driver.Memory, 0, 3)
	for _, d := range devices {
		mem, err := d.CreateMemory(emu.Granularity, driver.HandleNone)
		check(err)
		check(obj.Bind(d, 0, mem, 0, emu.Granularity))
		mems = append(mems, mem)
	}
	mems = append(mems, obj)
	for i, mem := range mems {
		at[i], err = b.drv.Reserve(emu.Granularity, 0)
		check(err)
		check(b.drv.Map(at[i], emu.Granularity, mem, 0))
		check(b.drv.SetAccess(at[i], emu.Granularity, devices...))
	}
	for i, d := range devices {
		check(d.Write(at[i], make([]byte, 512)))
	}
	return at
}

// check runs the pair in a mode and looks at the reports.
func (p pair) check(t *testing.T, mode emu.Mode, seed uint64) {
	t.Helper()
	b := newBench(t, 2, emu.Config{Mode: mode, Seed: seed, Judge: emu.Judge{Alias: p.alias}})
	at := b.pages(t)
	text := p.ptx()
	for i, d := range b.drv.Devices() {
		m, err := d.LoadModule(driver.Image{Name: "pair.ptx", PTX: []byte(text)})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		f, err := m.Function("k")
		if err != nil {
			t.Fatal(err)
		}
		var params []byte
		for _, a := range at {
			params = binary.LittleEndian.AppendUint64(params, uint64(a))
		}
		params = binary.LittleEndian.AppendUint32(params, uint32(i))
		one := driver.Dim3{X: 1}
		if err := b.streams[i].Launch(f, driver.LaunchConfig{Grid: one, Block: one}, params); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range b.streams {
		_ = s.Synchronize() // the reports tell
	}
	lines := strings.Split(text, "\n")
	found := p.want == ""
	for _, r := range b.drv.Reports() {
		if p.want == "" {
			t.Errorf("mode %d seed %d: %s", mode, seed, r.Text)
			continue
		}
		sides := []int{}
		if r.Race != nil {
			sides = append(sides, r.Race.Second.PTXLine)
			if r.Race.HasFirst {
				sides = append(sides, r.Race.First.PTXLine)
			}
		}
		found = found || r.Kind.String() == p.want && slices.ContainsFunc(sides, func(l int) bool {
			return l > 0 && strings.Contains(lines[l-1], p.at)
		})
	}
	if !found {
		t.Errorf("mode %d seed %d: no report of %q at %q, but %v", mode, seed, p.want, p.at, b.drv.Reports())
	}
}

func runPairs(t *testing.T, pairs []pair) {
	for _, p := range pairs {
		t.Run(p.name, func(t *testing.T) {
			p.check(t, emu.Check, 1)
			for seed := range uint64(10) {
				p.check(t, emu.Explore, seed)
			}
		})
	}
}

var (
	missingAlias = race.MissingAliasFence.String()
	mixedAlias   = race.MixedAlias.String()
	narrow       = race.ScopeTooNarrow.String()
	dataRace     = race.DataRace.String()
)
