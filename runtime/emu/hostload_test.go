package emu

import (
	"slices"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// TestHostLoad: a host that polls by HostLoad synchronises with strong stores
// of scope sys and races with all others, whichever comes first.
func TestHostLoad(t *testing.T) {
	const body = "mov.u32 %r1, 7; cvt.u64.u32 %rd2, %r1; st.SEM.global.u64 [%rd1], %rd2;"
	for _, c := range []struct {
		sem  string
		want []ReportKind
	}{
		{"relaxed.sys", nil},
		{"release.sys", nil},
		{"volatile", nil},
		{"relaxed.gpu", []ReportKind{ScopeTooNarrow, DataRace}},
		{"weak", []ReportKind{WeakRaceWithStrong, DataRace}},
	} {
		for _, mode := range []Mode{Check, Explore} {
			for _, early := range []bool{true, false} {
				m := newMachine(t, Config{Devices: 1, Mode: mode})
				h := must(m.Devices()[0].AllocHost(64))(t)
				s := m.stream(0)
				ok(t, s.Launch(m.kernel(m.load(0, ptxKernel(strings.Replace(body, "SEM", c.sem, 1))), "k"), grid1(1, 1), pack(uint64(h.Ptr()))))
				if early {
					_ = must(m.HostLoad(h.Ptr()))(t)
				}
				_ = s.Synchronize()
				if got := must(m.HostLoad(h.Ptr()))(t); got != 7 {
					t.Errorf("%s: the host reads %d after the kernel", c.sem, got)
				}
				reports := m.Reports()
				if !early || c.want == nil {
					if len(reports) > 0 {
						t.Errorf("%s, mode %v, early %v: %v", c.sem, mode, early, reports)
					}
				} else if len(reports) == 0 || !slices.Contains(c.want, reports[0].Kind) {
					t.Errorf("%s, mode %v: want one of %v, got %v", c.sem, mode, c.want, reports)
				}
			}
		}
	}
	m := newMachine(t, Config{Devices: 1})
	h := must(m.Devices()[0].AllocHost(64))(t)
	for _, p := range []uint64{uint64(h.Ptr()) + 4, uint64(h.Ptr()) + 64, uint64(alloc(m, 0, []uint64{1}))} {
		if _, err := m.HostLoad(driver.DevicePtr(p)); err == nil {
			t.Errorf("HostLoad(%#x) succeeds", p)
		}
	}
}
