package runtime

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/rendezvous"
)

// JoinOptions say how a process joins a group. The zero value takes everything
// from the environment.
type JoinOptions struct {
	// Place is who this rank is and where rank 0 listens; if its Size is 0, the
	// variables of the launcher say so: see PlaceFromEnv.
	Place Place
	// Generation is higher for every group that the same processes form: what is
	// left of an earlier one is turned away.
	Generation int
	// Token is the group's secret; "" takes MOEGEN_TOKEN or the file
	// MOEGEN_TOKEN_FILE, and if there are none, a key of this user on this host,
	// with which rank 0 listens on loopback only.
	Token string
	// Device is this rank's GPU; nil takes the one with the number LocalRank, or
	// the only one that the process sees.
	Device driver.Device
	// Share lets ranks be on one GPU, see NewSharedGroup.
	Share bool
	// Same is what must be equal on all ranks, by name, beyond what Join compares
	// itself (versions, the backend, the model of the GPU).
	Same map[string]string
	// Heartbeat and Silence: see rendezvous.Config; 0 is 250 ms and 3 s.
	Heartbeat, Silence time.Duration
	Logger             *slog.Logger // nil: slog's default

	// Host replaces the name of the host. Ranks of other names count as being on
	// other hosts, wherever they run: to try what needs several.
	Host string
}

// Place is a process's place in a group.
type Place = rendezvous.Place

// RankError says that a rank's process is gone, and the group at an end.
type RankError = rendezvous.RankError

// PlaceFromEnv is this process's place according to torchrun, mpirun, srun or
// Kubernetes. See rendezvous.FromEnv for the variables. Without any of them
// errors.Is(err, ErrNoLauncher).
func PlaceFromEnv() (Place, error) { return rendezvous.FromEnv(os.Getenv) }

// ErrNoLauncher: the environment does not say that this process is one of a group.
var ErrNoLauncher = rendezvous.ErrNoLauncher

// gpuIdentity is what ranks tell each other of their GPUs.
type gpuIdentity struct {
	Name   string
	UUID   string
	PCI    string
	Fabric bool // handles that other hosts can open
	// Process tells processes apart: emulated GPUs are not the same in two.
	Process string
}

var processID = sync.OnceValue(rand.Text)

// Join makes this process one rank of a group, and returns when all ranks are
// there. It fails on all of them, naming who, if one does not come before the
// context's deadline, or differs in version, backend, model of GPU or Same.
//
// The group is used like a LocalGroup, with this process's rank alone. When a
// rank's process goes away, everything that waits for it ends with a *RankError
// on all others, and so does every later call; Close the dispatchers and the
// group, which gives all memory back, and Join another.
func Join(ctx context.Context, drv driver.Driver, o JoinOptions) (*ProcessGroup, error) {
	if o.Place.Size == 0 {
		p, err := PlaceFromEnv()
		if err != nil {
			return nil, err
		}
		o.Place = p
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	dev, err := o.device(drv)
	if err != nil {
		return nil, err
	}
	identity, err := identify(dev)
	if err != nil {
		return nil, err
	}
	same := map[string]string{
		"runtime interface": fmt.Sprint(Version),
		"backend":           drv.Name(),
		"GPU model":         fmt.Sprintf("%s (sm_%d%d)", identity.Name, dev.Info().Major, dev.Info().Minor),
	}
	for name, v := range o.Same {
		same[name] = v
	}
	data, err := json.Marshal(identity)
	if err != nil {
		return nil, err
	}
	session, err := rendezvous.Join(ctx, rendezvous.Config{Place: o.Place, Generation: o.Generation, Token: o.Token, Same: same, Data: data,
		Heartbeat: o.Heartbeat, Silence: o.Silence, Logger: o.Logger, Host: o.Host}, os.Getenv)
	if err != nil {
		return nil, err
	}
	g := &ProcessGroup{session: session, rank: o.Place.Rank, dev: dev, log: o.Logger}
	if err := g.meet(&o); err != nil {
		session.Close()
		return nil, err
	}
	stop := session.OnFailure(g.failed)
	g.undo = append(g.undo, stop)
	o.Logger.Info("moegen group", "rank", g.rank, "ranks", g.Size(), "generation", o.Generation, "from", o.Place.Source, "at", o.Place.Address,
		"gpu", identity.UUID, "hosts", g.hosts, "handles", handleNames[g.kind], "because", g.why)
	return g, nil
}

// device is the rank's GPU.
func (o *JoinOptions) device(drv driver.Driver) (driver.Device, error) {
	have := drv.Devices()
	switch local := o.Place.LocalRank; {
	case o.Device != nil:
		if o.Device.Driver() != drv {
			return nil, errors.New("JoinOptions.Device is not of the driver given")
		}
		return o.Device, nil
	case local < len(have):
		return have[local], nil
	case len(have) == 1 || o.Share && len(have) > 0:
		return have[local%len(have)], nil
	default:
		return nil, fmt.Errorf("local rank %d has no GPU: this process sees %d; start as many processes on a host as it has GPUs", local, len(have))
	}
}

func identify(d driver.Device) (gpuIdentity, error) {
	info := d.Info()
	fabric, err := d.Attribute(driver.AttrFabricSupported)
	return gpuIdentity{Name: info.Name, UUID: info.UUID, PCI: info.PCI, Fabric: fabric != 0, Process: processID()}, err
}

var handleNames = map[driver.HandleKind]string{driver.HandleNone: "none", driver.HandlePosixFD: "file descriptors", driver.HandleFabric: "fabric"}

// meet looks at the other ranks' GPUs.
func (g *ProcessGroup) meet(o *JoinOptions) error {
	members := g.session.Members()
	g.peers = make([]gpuIdentity, len(members))
	hosts, gpus := map[string]bool{}, map[string]int{}
	fabric := true
	for r, m := range members {
		if err := json.Unmarshal(m.Data, &g.peers[r]); err != nil {
			return fmt.Errorf("%w: rank %d says of its GPU what cannot be read: %v", ErrGroup, r, err)
		}
		p := g.peers[r]
		hosts[m.HostID] = true
		fabric = fabric && p.Fabric
		at := m.HostID + p.UUID + p.PCI
		if other, ok := gpus[at]; ok && !o.Share {
			return fmt.Errorf("%w: ranks %d and %d are both on GPU %s of %s: each rank needs its own (JoinOptions.Device, or Share)", ErrGroup, other, r, p.UUID, m.Host)
		}
		gpus[at] = r
		g.oneProcess = (r == 0 || g.oneProcess) && p.Process == g.peers[0].Process
	}
	g.hosts = len(hosts)
	switch reason := g.session.NoFDs(); {
	case reason == "":
		g.kind, g.why = driver.HandlePosixFD, "all ranks are on one host"
	case fabric && g.hosts > 1:
		g.kind, g.why = driver.HandleFabric, reason
	default:
		g.why = reason
		if g.hosts > 1 {
			g.why += ", and not all GPUs have fabric handles"
		}
	}
	return nil
}
