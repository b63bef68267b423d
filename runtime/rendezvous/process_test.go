package rendezvous

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary a process that joins a group:
// "address rank size host stage". Where it has come to the stage it says so, and
// goes on when it is told to; in the group it meets the others at every line
// that comes in.
const childEnv = "MOEGEN_TEST_JOIN"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		childMain(strings.Fields(os.Getenv(childEnv)))
		return
	}
	os.Exit(m.Run())
}

func childMain(args []string) {
	in := bufio.NewScanner(os.Stdin)
	rank, _ := strconv.Atoi(args[1])
	size, _ := strconv.Atoi(args[2])
	c := config(args[0], rank, size)
	c.Silence = time.Second
	if args[3] != "-" {
		c.Host = args[3]
	}
	c.stage = func(name string) {
		if name == args[4] {
			fmt.Println("at", name)
			if in.Scan() && in.Text() == "exit" {
				os.Exit(0)
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := Join(ctx, c, os.Getenv)
	if err != nil {
		fmt.Println("failed", err)
		return
	}
	fmt.Println("joined", s.NoFDs())
	for in.Scan() {
		if _, err := s.AllGather(context.Background(), []byte("x")); err != nil {
			fmt.Println("failed", err)
		} else {
			fmt.Println("met")
		}
	}
	s.Close()
}

// process is a child as the test sees it.
type process struct {
	cmd   *exec.Cmd
	tell  func(line string)
	lines chan string
}

func spawn(t testing.TB, prefix []string, args ...any) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := append(prefix, exe)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+strings.TrimSpace(fmt.Sprintln(args...)))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, func(line string) { fmt.Fprintln(in, line) }, make(chan string, 10)}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return p
}

// expect waits for a line that begins like that.
func (p *process) expect(t testing.TB, prefix string, limit time.Duration) string {
	t.Helper()
	select {
	case line := <-p.lines:
		if !strings.HasPrefix(line, prefix) {
			t.Fatalf("the child says %q, want %q", line, prefix)
		}
		return line
	case <-time.After(limit):
		t.Fatalf("the child does not say %q for %v", prefix, limit)
	}
	return ""
}

// TestStages ends a process at each stage of forming a group, in three ways.
// All others get an error that says so: at once if all had come, or else when
// they have waited for it to their deadline.
func TestStages(t *testing.T) {
	privateDir(t)
	for _, c := range []struct {
		victim int
		stages []string
	}{
		{2, []string{"dialing", "dialed", "connected", "greeted", "welcomed", "formed"}},
		{0, []string{"connected", "greeted", "welcomed", "formed"}},
	} {
		for _, stage := range c.stages {
			for _, how := range []string{"kill", "exit", "stop"} {
				t.Run(fmt.Sprintf("%s rank %d %s", how, c.victim, stage), func(t *testing.T) {
					t.Parallel()
					stageCase(t, c.victim, stage, how)
				})
			}
		}
	}
}

func stageCase(t *testing.T, victim int, stage, how string) {
	const deadline = 2 * time.Second
	address := freeAddress(t)
	p := spawn(t, nil, address, victim, 3, "-", stage)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	start := time.Now()
	type result struct {
		rank int
		err  error
		at   time.Time
	}
	results := make(chan result)
	for r := range 3 {
		if r == victim {
			continue
		}
		go func() {
			c := config(address, r, 3)
			c.Silence = time.Second
			s, err := Join(ctx, c, os.Getenv)
			if err == nil { // they are told later, then
				_, err = s.AllGather(context.Background(), nil)
			}
			results <- result{r, err, time.Now()}
			if s != nil {
				s.Close()
			}
		}()
	}
	p.expect(t, "at "+stage, 10*time.Second)
	acted := time.Now()
	var err error
	switch how {
	case "kill":
		err = p.cmd.Process.Signal(syscall.SIGKILL)
	case "stop":
		err = p.cmd.Process.Signal(syscall.SIGSTOP)
	default:
		p.tell("exit")
	}
	if err != nil {
		t.Fatal(err)
	}
	limit := start.Add(deadline + time.Second)
	if stage == "welcomed" || stage == "formed" { // all were there
		limit = acted.Add(time.Second)
		if how == "stop" {
			limit = acted.Add(2 * time.Second) // a second of silence
		}
	}
	for range 2 {
		x := <-results
		text := fmt.Sprint(x.err)
		if x.err == nil || !strings.Contains(text, fmt.Sprintf("rank %d", victim)) && !(victim == 0 && strings.Contains(text, address)) {
			t.Errorf("rank %d: %v does not name rank %d", x.rank, x.err, victim)
		}
		if x.at.After(limit.Add(500 * time.Millisecond)) { // for a busy machine
			t.Errorf("rank %d was told %v after the end, %v too late: %v", x.rank, x.at.Sub(acted), x.at.Sub(limit), x.err)
		}
	}
}

// TestGone: a process that is gone is told within a second, on all ranks alike.
func TestGone(t *testing.T) {
	privateDir(t)
	address := freeAddress(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p := spawn(t, nil, address, 2, 3, "-", "none")
	sessions := make([]*Session, 2)
	done := make(chan error, 2)
	for r := range 2 {
		go func() {
			var err error
			sessions[r], err = Join(ctx, config(address, r, 3), os.Getenv)
			done <- err
		}()
	}
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	p.expect(t, "joined", 10*time.Second)
	told := make(chan error, 2)
	for _, s := range sessions {
		defer s.Close()
		s.OnFailure(func(err error) { told <- err })
		never := s.OnFailure(func(error) { t.Error("called after stop") })
		never()
	}
	killed := time.Now()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var gone *RankError
		if err := <-told; !errors.As(err, &gone) || gone.Rank != 2 || gone.PID != p.cmd.Process.Pid || gone.What != "exited" {
			t.Errorf("told %v", err)
		}
	}
	if took := time.Since(killed); took > time.Second {
		t.Errorf("after %v", took)
	}
	for r, s := range sessions {
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "rank 2 (") {
			t.Errorf("rank %d: %v", r, err)
		}
		if err, ok := <-s.Leave(time.Minute); !ok || err == nil {
			t.Errorf("rank %d leaves: %v", r, err)
		}
	}
}

// TestRevived: a process that was stopped for too long, and goes on, learns that
// the group has ended without it.
func TestRevived(t *testing.T) {
	privateDir(t)
	address := freeAddress(t)
	p := spawn(t, nil, address, 1, 2, "-", "none")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := config(address, 0, 2)
	c.Silence = 500 * time.Millisecond
	s, err := Join(ctx, c, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p.expect(t, "joined", 10*time.Second)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("rank 1 (%s, pid %d) has given no sign of life", s.Members()[1].Host, p.cmd.Process.Pid)
	if _, err := s.AllGather(ctx, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("rank 0: %v", err)
	}
	s.Close()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	p.tell("meet")
	p.expect(t, "failed "+want, 5*time.Second)
}

// TestNamespaces joins ranks in two network namespaces, each a host of its own:
// over their link, with a secret; and notices when one end is gone, or the link.
func TestNamespaces(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil || os.Geteuid() != 0 {
		t.Skip("NOT RUN: two network namespaces need root and the program ip")
	}
	run := func(args ...string) error {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	id := strconv.Itoa(os.Getpid())
	a, b := "moegen-a"+id, "moegen-b"+id
	if err := run("netns", "add", a); err != nil {
		t.Skipf("NOT RUN: this machine makes no network namespaces: %v", err)
	}
	t.Cleanup(func() { run("netns", "del", a); run("netns", "del", b) })
	va, vb := "mga"+id, "mgb"+id
	for _, args := range [][]string{
		{"netns", "add", b},
		{"link", "add", va, "netns", a, "type", "veth", "peer", "name", vb, "netns", b},
		{"-n", a, "addr", "add", "10.213.7.1/24", "dev", va}, {"-n", b, "addr", "add", "10.213.7.2/24", "dev", vb},
		{"-n", a, "link", "set", va, "up"}, {"-n", b, "link", "set", vb, "up"},
		{"-n", a, "link", "set", "lo", "up"}, {"-n", b, "link", "set", "lo", "up"},
	} {
		if err := run(args...); err != nil {
			t.Skipf("NOT RUN: this machine makes no network namespaces: %v", err)
		}
	}
	in := func(ns string) []string { return []string{"ip", "netns", "exec", ns} }
	privateDir(t)
	for name, end := range map[string]func(p *process) (string, time.Duration){
		"exit": func(p *process) (string, time.Duration) {
			p.cmd.Process.Kill()
			return "exited, or the network", time.Second
		},
		"break": func(p *process) (string, time.Duration) {
			run("-n", b, "link", "set", vb, "down")
			return "no sign of life", 3 * time.Second
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run("-n", b, "link", "set", vb, "up"); err != nil {
				t.Fatal(err)
			}
			ps := []*process{spawn(t, in(a), "10.213.7.1:29400", 0, 2, "host-a", "none"), spawn(t, in(b), "10.213.7.1:29400", 1, 2, "host-b", "none")}
			for _, p := range ps {
				if line := p.expect(t, "joined", 15*time.Second); !strings.Contains(line, "rank 1 is on host-b") {
					t.Errorf("descriptors between hosts: %s", line)
				}
			}
			for _, p := range ps {
				p.tell("meet")
			}
			for _, p := range ps {
				p.expect(t, "met", 5*time.Second)
			}
			ps[0].tell("meet")
			want, limit := end(ps[1])
			if line := ps[0].expect(t, "failed", limit+time.Second); !strings.Contains(line, "rank 1 (host-b, pid") || !strings.Contains(line, want) {
				t.Errorf("rank 0: %s", line)
			}
		})
	}
}
