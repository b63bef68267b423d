package mutation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A reason says why mutants survive that no test could kill, or that none of
// these does. The mutants themselves are in testdata/survivors.txt, each by its
// key; go test ./tests/mutation -run TestMutants -update writes the file anew.
// A survivor for which there is no reason is an error, and so is one that is
// not in the file, and one in the file that is killed.
type reason struct {
	name string
	why  string
	// holds says whether this is the reason why j survives.
	holds func(j *job) bool
}

var reasons = []reason{
	{"permuted", "The release still covers the block's data, every rank still gets one flag from every rank, all of one " +
		"epoch: only another thread of the sender stores it. Equivalent.",
		ops("flag to the next rank")},
	{"remote poll", "A rank tells itself, with the same release and the same word, what it tells the others, so that word in " +
		"the peer's memory is as good as the one it sent. Equivalent, but it polls over the link.",
		ops("poll the peer's word")},
	{"status", "The word is the host's copy of the failure. The host reads it outside the machine, so no judge sees a conflict, " +
		"and every kernel from the one that noticed on writes it again: a store that is lost, weak, too narrow or beside it is " +
		"made good by the next. A blind spot of the emulator; harmless while the host synchronises before it reads.",
		role(statusRole)},
	{"first failure", "Whose failure stays, where several are found at once, is only told to people: any of them is true.",
		ops("cas to exch", "cas to load and store", "cas to load")},
	{"failure seen late", "A look at the failure word that misses it costs time, not results: another look, or the wait's own " +
		"deadline, ends the kernel, and the failing rank has told its host. The group is lost in any case.",
		role(failureRole)},
	{"other deadline", "The word beside the timeout is an address, so the wait is only longer; virtual time does not tell.",
		func(j *job) bool { return j.op == "address up by one" && j.role(controlRole) }},
	{"one peer untold", "The loop of fail() then leaves the last rank to notice by its own deadline.",
		func(j *job) bool { return j.op == "one rank fewer" && strings.HasPrefix(j.text, "setp.lt.u32") }},
}

func ops(names ...string) func(j *job) bool {
	return func(j *job) bool { return slices.Contains(names, j.op) }
}

func role(name string) func(j *job) bool { return func(j *job) bool { return j.role(name) } }

// role says whether the mutated instruction accesses the area and no other.
func (j *job) role(name string) bool {
	at := j.target.roles[j.line]
	return len(at) == 1 && at[name]
}

const survivorsFile = "survivors.txt"

// survivors reads the list.
func survivors(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", survivorsFile))
	if err != nil && !*update {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		listed[strings.TrimSpace(line)] = true
	}
	return listed
}

// reason is the index of the reason why the mutant may survive, -1 if none is
// known.
func (j *job) reason() int {
	return slices.IndexFunc(reasons, func(r reason) bool { return r.holds(j) })
}

// entry is the mutant's line in the list, "" if no reason for it is known.
func (j *job) entry() string {
	if at := j.reason(); at >= 0 {
		return fmt.Sprintf("%s | %s | %s | %s | %s | %d", reasons[at].name, j.target.name(), j.kernel, j.op, j.text, j.n)
	}
	return ""
}

// checkSurvivors compares the survivors with the list. If not all mutants have
// run, entries without a mutant are no error.
func checkSurvivors(t *testing.T, listed map[string]bool, jobs []*job, all bool) {
	t.Helper()
	var lines []string
	for _, j := range jobs {
		line := j.entry()
		if j.verdict.kind == "" && line == "" {
			t.Errorf("%s %v: survives, and nobody has said why", j.target.name(), j.mutant)
		}
		if line == "" {
			continue
		}
		switch survives := j.verdict.kind == ""; {
		case survives:
			lines = append(lines, line)
			if !listed[line] && !*update {
				t.Errorf("%v: survives and is not in %s:\n%s", j.mutant, survivorsFile, line)
			}
		case listed[line] && !*update:
			t.Errorf("%v: is killed (%s) and still in %s", j.mutant, j.where, survivorsFile)
		}
		delete(listed, line)
	}
	if *update && all {
		slices.Sort(lines)
		if err := os.WriteFile(filepath.Join("testdata", survivorsFile), []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for line := range listed {
		if all {
			t.Errorf("%s has an entry without a mutant: %s", survivorsFile, line)
		}
	}
	for _, r := range reasons {
		n := 0
		for _, line := range lines {
			if strings.HasPrefix(line, r.name+" | ") {
				n++
			}
		}
		if all && n == 0 {
			t.Errorf("nothing survives for the reason %q any more", r.name)
		}
		t.Logf("%3d survivors: %s: %s", n, r.name, r.why)
	}
}
