package join

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moegen/moegen/cmd/moegen/layer"
	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/spec"
)

// childEnv makes the test binary one rank's process, on the device with that
// number, which does what it is told on stdin, a line at a time, and answers
// each line.
const childEnv = "MOEGEN_TEST_DEVICE"

// backendEnv names what the processes run on: the emulator, or "cuda".
const backendEnv = "MOEGEN_TEST_BACKEND"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		serve(os.Stdin, os.Stdout)
		return
	}
	os.Exit(m.Run())
}

// child is what a rank's process keeps between commands.
type child struct {
	drv  driver.Driver
	dev  driver.Device
	size int
	m    *member
}

func serve(in io.Reader, out io.Writer) {
	device, _ := strconv.Atoi(os.Getenv(childEnv))
	drv, err := openBackend()
	if err != nil || device >= len(drv.Devices()) {
		fmt.Fprintln(out, "err no device", device, err)
		return
	}
	c := &child{drv: drv, dev: drv.Devices()[device]}
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close() // Go's own descriptors for networks are there from now on
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		answer, err := c.do(lines.Text())
		if err != nil {
			fmt.Fprintln(out, "err", strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			fmt.Fprintln(out, "ok", answer)
		}
	}
}

func openBackend() (driver.Driver, error) {
	if os.Getenv(backendEnv) == "cuda" {
		return cuda.Open()
	}
	return emu.New(emu.Config{Devices: 8})
}

func (c *child) do(line string) (string, error) {
	verb, _, _ := strings.Cut(line, " ")
	switch verb {
	case "join": // address rank size generation kernel-timeout silence deadline
		var address, timeout, silence, deadline string
		var rank, size, generation int
		if _, err := fmt.Sscan(line, &verb, &address, &rank, &size, &generation, &timeout, &silence, &deadline); err != nil {
			return "", err
		}
		p, err := load(size)
		if err != nil {
			return "", err
		}
		o := options(address, rank, size)
		o.Generation, o.Device, c.size = generation, c.dev, size
		kernels, _ := time.ParseDuration(timeout)
		o.Silence, _ = time.ParseDuration(silence)
		limit, err := time.ParseDuration(deadline)
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if c.m, err = enlist(ctx, c.drv, o, p, moert.WithTimeout(kernels), moert.WithTransport(moert.P2P)); err != nil {
			return "", err
		}
		return string(c.m.d.Transport()), nil
	case "step":
		return "", c.m.run(3)
	case "meet": // the host waits for the others
		_, err := c.m.group.AllGather(context.Background(), c.m.group.Rank(), nil)
		return "", err
	case "steps": // until one fails
		for {
			if err := c.m.run(3); err != nil {
				return "", err
			}
		}
	case "replays":
		return "", c.m.replays()
	case "verify": // every element that is gathered and combined
		return "", c.verify()
	case "close":
		m := c.m
		if c.m = nil; m == nil {
			return "", nil // joining has failed
		}
		return "", m.close()
	case "free":
		free, _, err := c.dev.MemInfo()
		if err != nil {
			return "", err
		}
		files, err := os.ReadDir("/proc/self/fd")
		return fmt.Sprint(free, " bytes, ", len(files), " descriptors"), err
	case "exit":
		os.Exit(0)
	}
	return "", fmt.Errorf("what is %q?", line)
}

// replays captures a step and replays it until that fails.
func (m *member) replays() error {
	if err := m.stream.BeginCapture(); err != nil {
		return err
	}
	enqueued := m.step(3)
	graph, err := m.stream.EndCapture()
	if err := errors.Join(enqueued, err); err != nil {
		return err
	}
	exec, err := graph.Instantiate()
	for err == nil {
		if err = exec.Launch(m.stream); err == nil {
			err = m.d.Synchronize(m.stream)
		}
	}
	if exec != nil {
		err = errors.Join(err, exec.Close())
	}
	return errors.Join(err, graph.Close())
}

func (c *child) verify() error {
	s, err := spec.Parse("moe.yaml", []byte(shape(c.size)))
	if err != nil {
		return err
	}
	p, err := load(c.size)
	if err != nil {
		return err
	}
	tokens := make([]int, c.size)
	for r := range tokens {
		tokens[r] = 3 * r
	}
	result, err := layer.Run(context.Background(), layer.Config{Spec: s, Program: p, Joined: c.m.group, Transport: moert.P2P,
		Tokens: [][]int{tokens}, Steps: 2, Replays: 2, Layers: 2, Seed: 7, Options: []moert.Option{moert.WithLogger(quiet), moert.WithTimeout(time.Minute)}})
	if err == nil && (!result.OK() || len(result.Steps) != 4 || len(result.Steps[0].Ranks) != c.size) {
		err = fmt.Errorf("wrong results: %+v", result)
	}
	return err
}

// process is a child as the test sees it.
type process struct {
	t       testing.TB
	device  int
	cmd     *exec.Cmd
	in      io.Writer
	answers chan string
}

func start(t testing.TB, device int) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(device))
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
	p := &process{t, device, cmd, in, make(chan string, 1)}
	go func() {
		defer close(p.answers)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.answers <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return p
}

func (p *process) tell(format string, args ...any) { fmt.Fprintf(p.in, format+"\n", args...) }

// answer waits for the answer to the last command.
func (p *process) answer(limit time.Duration) (string, error) {
	select {
	case a, ok := <-p.answers:
		if !ok {
			return "", fmt.Errorf("pid %d has ended", p.cmd.Process.Pid)
		}
		status, text, _ := strings.Cut(a, " ")
		if status != "ok" {
			return "", fmt.Errorf("%s", text)
		}
		return text, nil
	case <-time.After(limit):
		return "", fmt.Errorf("pid %d has not answered for %v", p.cmd.Process.Pid, limit)
	}
}

func (p *process) signal(s syscall.Signal) {
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// team is the processes of one group.
type team struct {
	t  testing.TB
	ps []*process
}

func newTeam(t testing.TB, size int) *team {
	privateDir(t)
	g := &team{t: t}
	for device := range size {
		g.ps = append(g.ps, start(t, device))
	}
	return g
}

// join forms a group of the processes, in their order.
func (g *team) join(generation int, kernels, silence string) {
	g.t.Helper()
	address := freeAddress(g.t)
	for r, p := range g.ps {
		p.tell("join %s %d %d %d %s %s 1m", address, r, len(g.ps), generation, kernels, silence)
	}
	for r, p := range g.ps {
		if transport, err := p.answer(time.Minute); err != nil || transport != "p2p" {
			g.t.Fatalf("rank %d joins: %s %v", r, transport, err)
		}
	}
}

// all tells every process the same and wants it done.
func (g *team) all(command string) []string {
	g.t.Helper()
	out := make([]string, len(g.ps))
	for _, p := range g.ps {
		p.tell("%s", command)
	}
	for r, p := range g.ps {
		var err error
		if out[r], err = p.answer(time.Minute); err != nil {
			g.t.Fatalf("%s: rank %d: %v", command, r, err)
		}
	}
	return out
}

// without returns the team that is left without one process.
func (g *team) without(rank int) *team {
	left := &team{t: g.t}
	for r, p := range g.ps {
		if r != rank {
			left.ps = append(left.ps, p)
		}
	}
	return left
}
