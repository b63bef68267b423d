package mutation

import (
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/runtime/emu/race"
)

// judge is the verdict of the judge alone.
func (r *rig) judge() verdict {
	if r.drv.Verdict() == emu.Clean {
		return verdict{}
	}
	reps := r.drv.Reports()
	v := verdict{byStall, reps[0].Text}
	for _, rep := range reps {
		switch {
		case rep.Race != nil:
			return verdict{byRace, rep.Text}
		case rep.Kind >= emu.OutOfBounds && rep.Kind <= emu.DivergentBarrier:
			return verdict{byFault, rep.Text}
		}
	}
	return v
}

func isStall(err error) bool {
	const launchTimeout driver.Code = 702
	return driver.CodeOf(err) == launchTimeout
}

// missing says which report is not there, "" if one is.
func (w *want) missing(reports []emu.Report, kernel string) string {
	has := func(a race.AccessInfo) bool {
		return w.lines[a.PTXLine] && a.Kernel == kernel || w.others && a.Kernel != kernel
	}
	for _, rep := range reports {
		for _, k := range w.kinds {
			if r := rep.Race; r != nil && r.Kind == k && (has(r.Second) || r.HasFirst && has(r.First)) {
				return ""
			}
		}
	}
	return fmt.Sprintf("no report of %v in %d reports", w.kinds, len(reports))
}
