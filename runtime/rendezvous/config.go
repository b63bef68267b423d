package rendezvous

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Config says how to join a group.
type Config struct {
	Place
	// Generation counts the groups that one set of processes forms one after the
	// other: processes left over from an earlier one are turned away.
	Generation int
	// Token is the secret, at least MinToken bytes. Without one it comes from
	// the environment, see LoadSecret.
	Token string
	// Same is what must be equal on all ranks, by name.
	Same map[string]string
	// Data goes to all ranks as it is; at most 16 KiB.
	Data []byte
	// Heartbeat is the time between two signs of life; default 250 ms.
	Heartbeat time.Duration
	// Silence is how long a rank may give none before it counts as gone; default
	// 3 s, at least four heartbeats. That a process has ended is noticed at
	// once: this is for stopped processes and dead hosts.
	Silence time.Duration
	Logger  *slog.Logger

	// Host is the host's name; default os.Hostname. Giving one makes the rank a
	// rank of another host than those with another name, wherever it runs.
	Host string

	hostID string
	stage  func(string) // for tests: how far Join has come
}

// Place is a process's place in a group; see FromEnv.
type Place struct {
	Rank, Size int
	LocalRank  int    // among the group's processes on this host
	LocalSize  int    // how many those are; 0 if unknown
	Address    string // host:port where rank 0 listens
	Group      string // names the group; equal on all ranks
	Source     string // who says so: "Open MPI", "Slurm", ...
}

const (
	defaultHeartbeat = 250 * time.Millisecond
	defaultSilence   = 3 * time.Second
	// defaultDeadline bounds waits whose context has no deadline.
	defaultDeadline = 5 * time.Minute
	// handshakeLimit is how long a stranger may take to become a member.
	handshakeLimit = 5 * time.Second
	// lingerLimit is how long rank 0 waits to tell late ranks why there is no group.
	lingerLimit = time.Second
	maxData     = 16 << 10
)

// complete checks the configuration and fills in the defaults.
func (c *Config) complete() error {
	if c.Size < 1 || c.Size > MaxSize {
		return fmt.Errorf("a group of %d ranks: allowed are 1 to %d", c.Size, MaxSize)
	}
	if c.Rank < 0 || c.Rank >= c.Size {
		return fmt.Errorf("rank %d of a group of %d: allowed are 0 to %d", c.Rank, c.Size, c.Size-1)
	}
	host, port, err := net.SplitHostPort(c.Address)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" {
		return fmt.Errorf("address %q of rank 0: want host:port, e.g. 10.0.0.1:29400; set %s or MASTER_ADDR and MASTER_PORT", c.Address, AddressEnv)
	}
	if len(c.Data) > maxData {
		return fmt.Errorf("%d bytes of Data: at most %d", len(c.Data), maxData)
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = defaultHeartbeat
	}
	if c.Silence == 0 {
		c.Silence = defaultSilence
	}
	if c.Heartbeat < time.Millisecond || c.Silence < 4*c.Heartbeat {
		return fmt.Errorf("a heartbeat every %v and silence of %v: at least 1 ms, and four heartbeats", c.Heartbeat, c.Silence)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.hostID = c.Host
	if c.Host == "" {
		if c.Host, err = os.Hostname(); err != nil {
			c.Host = "unknown host"
		}
		c.hostID = hostID(c.Host)
	}
	if c.stage == nil {
		c.stage = func(string) {}
	}
	return nil
}

// hostID tells hosts apart whatever they are called.
func hostID(name string) string {
	if id, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		return strings.TrimSpace(string(id))
	}
	return name
}

func (c *Config) member() Member {
	return Member{Protocol: Protocol, Rank: c.Rank, Size: c.Size, Group: c.Group, Generation: c.Generation,
		Host: c.Host, HostID: c.hostID, PID: os.Getpid(), Same: c.Same, Data: c.Data}
}
