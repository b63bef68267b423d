package join

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Environment variables of TestCampaign: how many processes to end, of how many,
// and from which seed the moments are chosen.
const (
	killsEnv = "MOEGEN_TEST_KILLS"
	ranksEnv = "MOEGEN_TEST_RANKS"
	seedEnv  = "MOEGEN_TEST_SEED"
)

// TestCampaign ends processes at random moments, in random ways. Every time the
// survivors are told in time, give everything back, and form a group with a new
// process that verifies what it exchanges. With MOEGEN_TEST_BACKEND=cuda it runs
// on GPUs, two unless it is told otherwise.
func TestCampaign(t *testing.T) {
	size, kills := 3, number(t, killsEnv, 10)
	if os.Getenv(backendEnv) == "cuda" {
		size = 2
	}
	size = number(t, ranksEnv, size)
	seed := uint64(number(t, seedEnv, int(time.Now().UnixNano()%1e6)))
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("%d kills from %s=%d", kills, seedEnv, seed)
	g := newTeam(t, size)
	baseline := map[*process]string{}
	var worst time.Duration
	for i := range kills {
		victim := rng.IntN(size)
		moment := []string{"join", "idle", "step", "steps", "replays", "meet"}[rng.IntN(6)]
		how := []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGSTOP}[rng.IntN(3)]
		wait := time.Duration(rng.IntN(150)) * time.Millisecond
		what := fmt.Sprintf("kill %d: %v of rank %d (pid %d) %v into %s", i, how, victim, g.ps[victim].cmd.Process.Pid, wait, moment)
		left := g.without(victim)
		if moment == "join" {
			address := freeAddress(t)
			for r, p := range g.ps {
				p.tell("join %s %d %d %d 60s 1s 3s", address, r, size, i)
			}
		} else {
			g.join(i, "60s", "1s")
			switch moment {
			case "idle":
			case "steps", "replays": // the victim too
				for _, p := range g.ps {
					p.tell("%s", moment)
				}
			default:
				for _, p := range left.ps {
					p.tell("%s", moment)
				}
			}
		}
		time.Sleep(wait)
		ended := time.Now()
		g.ps[victim].signal(how)
		limit := time.Second
		if how == syscall.SIGSTOP {
			limit = 2 * time.Second
		}
		if moment == "join" {
			limit = 4 * time.Second // it may not have come yet
			if os.Getenv(backendEnv) == "cuda" {
				limit += 4 * time.Second // a context takes its time
			}
		}
		for _, p := range left.ps {
			if moment == "idle" {
				p.tell("meet")
			}
			_, err := p.answer(30 * time.Second)
			if err == nil && moment == "join" { // it had joined
				p.tell("meet")
				_, err = p.answer(30 * time.Second)
			}
			took := time.Since(ended)
			worst = max(worst, took)
			if err == nil || moment != "join" && !strings.Contains(err.Error(), fmt.Sprintf("rank %d (", victim)) {
				t.Errorf("%s: pid %d: %v", what, p.cmd.Process.Pid, err)
			}
			if took > limit+slack {
				t.Errorf("%s: pid %d was told after %v: %v", what, p.cmd.Process.Pid, took, err)
			}
		}
		if how == syscall.SIGSTOP {
			g.ps[victim].signal(syscall.SIGKILL)
		}
		left.all("close")
		checkFree(t, left, baseline, what)
		if t.Failed() {
			return
		}
		g.ps[victim] = start(t, g.ps[victim].device)
		g.join(i+kills, "60s", "30s")
		g.all("verify")
		g.all("close")
	}
	t.Logf("told after at most %v", worst)
}

func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q: want a number", name, text)
	}
	return n
}

// checkFree wants every process to have as much as it had before. On GPUs the
// operating system takes a moment to give back what a dead process held.
func checkFree(t *testing.T, g *team, baseline map[*process]string, what string) {
	t.Helper()
	patience := time.Duration(0)
	if os.Getenv(backendEnv) == "cuda" {
		patience = 10 * time.Second
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		faults := ""
		for r, now := range g.all("free") {
			p := g.ps[r]
			before, ok := baseline[p]
			if !ok || moreFree(before, now) {
				baseline[p] = now
			} else if !sameFree(before, now) {
				faults += fmt.Sprintf("%s: pid %d has %s, before %s\n", what, p.cmd.Process.Pid, now, before)
			}
		}
		if faults == "" {
			return
		}
		if !time.Now().Before(deadline) {
			t.Error(faults)
			return
		}
	}
}

// moreFree says whether a GPU has more free memory than before, and the process
// as many descriptors: then a process that had died still held some before.
func moreFree(before, now string) bool {
	memory, descriptors, ok := parseFree(before, now)
	return ok && os.Getenv(backendEnv) == "cuda" && descriptors[0] == descriptors[1] && memory[1] > memory[0]
}

// parseFree reads what a process says that it has, before and now.
func parseFree(before, now string) (memory, descriptors [2]int64, ok bool) {
	for i, s := range []string{before, now} {
		if _, err := fmt.Sscanf(s, "%d bytes, %d descriptors", &memory[i], &descriptors[i]); err != nil {
			return memory, descriptors, false
		}
	}
	return memory, descriptors, true
}

// sameFree compares what a process says that it has. A GPU's driver keeps pages
// of its own, some MiB in all, that a dispatcher does not ask for.
func sameFree(before, now string) bool {
	memory, descriptors, ok := parseFree(before, now)
	if !ok {
		return before == now
	}
	slack := int64(0)
	if os.Getenv(backendEnv) == "cuda" {
		slack = 32 << 20
	}
	return descriptors[0] == descriptors[1] && memory[0]-memory[1] <= slack && memory[1]-memory[0] <= slack
}
