package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/rendezvous"
)

// procsEnv is set in the processes that -procs starts: they join, whatever
// -procs says.
const procsEnv = "MOEGEN_RUN_PROC"

// joinLimit is how long ranks wait for each other.
const joinLimit = 2 * time.Minute

// place is this process's place in a group of processes, nil if it runs all
// ranks by itself.
func (o *runFlags) place() (*moert.Place, error) {
	if o.procs == 1 || o.procs > 1 && os.Getenv(procsEnv) == "" {
		return nil, nil
	}
	p, err := moert.PlaceFromEnv()
	switch {
	case errors.Is(err, moert.ErrNoLauncher) || err == nil && p.Size == 1:
		return nil, nil
	case err != nil:
		return nil, err
	case o.procs > 1 && o.procs != p.Size || o.ranks != 0 && o.ranks != p.Size:
		return nil, fmt.Errorf("-ranks %d, and the launcher has started %d processes, one a rank", o.ranks, p.Size)
	case o.mode != "fast":
		return nil, fmt.Errorf("-mode %s judges one process with all ranks: run it without a launcher, or with -procs 1", o.mode)
	}
	o.ranks = p.Size
	return &p, nil
}

// spawn runs the command line in n processes, one a rank, on this host. Rank 0's
// output is the command's; what goes wrong is told by all.
func spawn(ctx context.Context, n int, args []string, stdout, stderr io.Writer) int {
	exe, err := os.Executable()
	if err == nil {
		var address string
		if address, err = freeAddress(); err == nil {
			return spawnAt(ctx, exe, address, n, args, stdout, stderr)
		}
	}
	fmt.Fprintln(stderr, "moegen run:", err)
	return exitFailure
}

func spawnAt(ctx context.Context, exe, address string, n int, args []string, stdout, stderr io.Writer) int {
	host, port, _ := net.SplitHostPort(address)
	env := append(os.Environ(), procsEnv+"=1", rendezvous.TokenEnv+"="+rand.Text()+rand.Text(), rendezvous.AddressEnv+"="+address,
		"MASTER_ADDR="+host, "MASTER_PORT="+port, "WORLD_SIZE="+strconv.Itoa(n), "LOCAL_WORLD_SIZE="+strconv.Itoa(n))
	codes := make([]int, n)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for r := range n {
		cmd := exec.CommandContext(ctx, exe, append([]string{"run"}, args...)...)
		cmd.Env = append(env[:len(env):len(env)], "RANK="+strconv.Itoa(r), "LOCAL_RANK="+strconv.Itoa(r))
		cmd.Stderr = lockedWriter{&mu, stderr}
		if r == 0 {
			cmd.Stdout = stdout
		}
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 10 * time.Second
		wg.Go(func() {
			err := cmd.Run()
			var exit *exec.ExitError
			switch {
			case err == nil:
			case errors.As(err, &exit) && exit.ExitCode() > 0:
				codes[r] = exit.ExitCode()
			default: // not started, or ended by a signal
				codes[r] = exitFailure
				fmt.Fprintf(cmd.Stderr, "moegen run: rank %d's process: %v\n", r, err)
			}
		})
	}
	wg.Wait()
	code := exitOK
	for _, c := range codes {
		code = max(code, c)
	}
	return code
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// freeAddress is a loopback address at which nothing listens now.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// join brings this process's rank into the group of the job's spec.
func (j *runJob) join(ctx context.Context, b *backend, stderr io.Writer) (*moert.ProcessGroup, error) {
	ctx, cancel := context.WithTimeout(ctx, joinLimit)
	defer cancel()
	return moert.Join(ctx, b.driver, moert.JoinOptions{Place: *j.place, Generation: j.index, Share: j.flags.share, Logger: j.flags.logger(stderr),
		Same: map[string]string{"spec": j.program.SpecHash, "plan": fmt.Sprint(j.program.Plan)}})
}

// gpus is how many GPUs the job needs in this process: its rank's, or where the
// processes of the host see all of them, one for each.
func (j *runJob) gpus() int {
	switch {
	case j.place == nil:
		return j.spec.EPSize
	case os.Getenv("CUDA_VISIBLE_DEVICES") != "" || j.flags.share:
		return 1
	}
	return max(j.place.LocalSize, j.place.LocalRank+1)
}
