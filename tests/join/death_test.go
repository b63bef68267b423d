package join

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDeath ends a rank's process in different ways while the others wait for
// it, on the host or in kernels. All others get the error, in time; they give
// everything back; and they form new groups: one without the rank, and one with
// a process in its place.
func TestDeath(t *testing.T) {
	type death struct {
		name             string
		end              func(p *process)
		kernels, silence string
		limit            time.Duration // from the end to the errors
		want             string        // besides the rank and its process
	}
	kill := death{"SIGKILL", func(p *process) { p.signal(syscall.SIGKILL) }, "60s", "30s", time.Second, "exited"}
	exit := death{"exit", func(p *process) { p.tell("exit") }, "60s", "30s", time.Second, "exited"}
	silent := death{"SIGSTOP, noticed by the host", func(p *process) { p.signal(syscall.SIGSTOP) }, "60s", "1s", 2 * time.Second, "no sign of life"}
	kernel := death{"SIGSTOP, noticed by kernels", func(p *process) { p.signal(syscall.SIGSTOP) }, "1s", "30s", 2 * time.Second, "did not come before the timeout"}
	for _, c := range []struct {
		death
		victim int
		while  string // what the others do
	}{
		{kill, 2, "step"}, {kill, 0, "step"}, {kill, 1, "meet"}, {kill, 0, "meet"},
		{exit, 1, "step"}, {exit, 0, "meet"},
		{silent, 2, "step"}, {silent, 0, "step"}, {silent, 0, "meet"},
		{kernel, 1, "step"}, {kernel, 0, "step"},
	} {
		t.Run(fmt.Sprintf("%s of %d in %s", c.name, c.victim, c.while), func(t *testing.T) {
			g := newTeam(t, 3)
			before := g.all("free")
			g.join(0, c.kernels, c.silence)
			g.all("step")

			left := g.without(c.victim)
			for _, p := range left.ps {
				p.tell("%s", c.while)
			}
			time.Sleep(200 * time.Millisecond) // they wait
			victim := g.ps[c.victim]
			ended := time.Now()
			c.end(victim)
			host, _ := os.Hostname()
			who := fmt.Sprintf("rank %d (%s, pid %d)", c.victim, host, victim.cmd.Process.Pid)
			if c.death.name == kernel.name {
				who = fmt.Sprintf("(%s, pid %d,", host, victim.cmd.Process.Pid)
			}
			for _, p := range left.ps {
				_, err := p.answer(20 * time.Second)
				if err == nil || !strings.Contains(err.Error(), who) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("pid %d: %v, want %q and %q", p.cmd.Process.Pid, err, who, c.want)
				}
			}
			took := time.Since(ended)
			t.Logf("told after %v", took)
			if took > c.limit+slack {
				t.Errorf("told after %v, want %v", took, c.limit)
			}

			// Later calls fail at once.
			again := time.Now()
			for _, p := range left.ps {
				p.tell("step")
				if _, err := p.answer(20 * time.Second); err == nil {
					t.Error("a step without the rank")
				}
			}
			if took := time.Since(again); took > 500*time.Millisecond+slack {
				t.Errorf("a later step failed after %v", took)
			}
			if c.death.name == kernel.name {
				victim.signal(syscall.SIGKILL) // else Close waits for it, until it is silent for too long
			}
			left.all("close")
			for r, now := range left.all("free") {
				if r < len(before) && now != before[r] {
					t.Errorf("after Close: %s, before: %s", now, before[r])
				}
			}

			left.join(1, "60s", "30s")
			left.all("step")
			left.all("close")

			whole := &team{t: t, ps: append(left.ps[:2:2], start(t, victim.device))}
			whole.join(2, "60s", "30s")
			whole.all("verify")
			whole.all("close")
		})
	}
}

// slack is for machines with more to do than processors to do it.
const slack = time.Second

// TestDeathInSetUp ends a process at some moment of forming the group and
// building the dispatcher: the others get an error that names it, at once, or if
// it had not come yet, at their deadline.
func TestDeathInSetUp(t *testing.T) {
	for _, wait := range []time.Duration{0, 30, 100, 150, 250} {
		for _, victim := range []int{0, 2} {
			t.Run(fmt.Sprintf("%d after %dms", victim, wait), func(t *testing.T) {
				g := newTeam(t, 3)
				g.all("free") // they are up
				address := freeAddress(t)
				for r, p := range g.ps {
					p.tell("join %s %d 3 0 20s 5s 3s", address, r)
				}
				time.Sleep(wait * time.Millisecond)
				g.ps[victim].signal(syscall.SIGKILL)
				for _, p := range g.without(victim).ps {
					_, err := p.answer(10 * time.Second)
					if err == nil { // it had joined
						p.tell("meet")
						_, err = p.answer(10 * time.Second)
					}
					if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("rank %d", victim)) && !strings.Contains(err.Error(), address) {
						t.Errorf("pid %d: %v does not name rank %d", p.cmd.Process.Pid, err, victim)
					}
				}
			})
		}
	}
}
