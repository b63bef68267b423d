package rendezvous

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"strconv"
	"strings"
)

// AddressEnv names the environment variable with rank 0's host:port, which goes
// before everything that launchers set.
const AddressEnv = "MOEGEN_ADDR"

// ErrNoLauncher: the environment does not say that this process is one of a group.
var ErrNoLauncher = errors.New("no launcher's variables in the environment")

// launcher is the variables that one kind of launcher sets.
type launcher struct {
	name                             string
	rank, size, localRank, localSize string
	job                              []string // together they name the job
	needs                            string   // without this one the others mean nothing
}

// launchers in the order in which they are asked: some run below another.
var launchers = []launcher{
	{name: "RANK and WORLD_SIZE", rank: "RANK", size: "WORLD_SIZE", localRank: "LOCAL_RANK", localSize: "LOCAL_WORLD_SIZE",
		job: []string{"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"}},
	{name: "Open MPI", rank: "OMPI_COMM_WORLD_RANK", size: "OMPI_COMM_WORLD_SIZE", localRank: "OMPI_COMM_WORLD_LOCAL_RANK",
		localSize: "OMPI_COMM_WORLD_LOCAL_SIZE", job: []string{"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"}},
	{name: "PMI", rank: "PMI_RANK", size: "PMI_SIZE", localRank: "MPI_LOCALRANKID", localSize: "MPI_LOCALNRANKS",
		job: []string{"PMI_JOBID", "SLURM_JOB_ID", "SLURM_STEP_ID"}},
	// A batch script has a rank too: only srun sets the step.
	{name: "Slurm", rank: "SLURM_PROCID", size: "SLURM_STEP_NUM_TASKS", localRank: "SLURM_LOCALID",
		job: []string{"SLURM_JOB_ID", "SLURM_STEP_ID"}, needs: "SLURM_STEP_ID"},
}

// FromEnv finds the process's place from the variables that torchrun (or
// Kubernetes), mpirun, MPICH's and Intel's hydra, and srun set. The error is
// ErrNoLauncher where there are none.
//
// Rank 0's address is MOEGEN_ADDR; or MASTER_ADDR with MASTER_PORT, and below
// torchrun, whose own store has that port, the next one; or, where all ranks
// are on one host, a loopback port that follows from the job's name; or the
// first host of Slurm's list with such a port. One host talks over loopback
// whatever MASTER_ADDR is.
func FromEnv(getenv func(string) string) (Place, error) {
	for _, l := range launchers {
		if getenv(l.rank) == "" || getenv(l.size) == "" || l.needs != "" && getenv(l.needs) == "" {
			continue
		}
		return l.place(getenv)
	}
	return Place{}, fmt.Errorf("%w: none of RANK and WORLD_SIZE, OMPI_COMM_WORLD_*, PMI_*, SLURM_* of a step", ErrNoLauncher)
}

func (l launcher) place(getenv func(string) string) (Place, error) {
	p := Place{Source: l.name}
	for _, v := range []struct {
		name string
		to   *int
		min  int
	}{{l.rank, &p.Rank, 0}, {l.size, &p.Size, 1}, {l.localRank, &p.LocalRank, 0}, {l.localSize, &p.LocalSize, 1}} {
		text := getenv(v.name)
		if text == "" {
			continue // the local ones
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < v.min || n > 1<<20 {
			return Place{}, fmt.Errorf("%s=%q: want a number of at least %d", v.name, text, v.min)
		}
		*v.to = n
	}
	if l.localRank != "" && getenv(l.localRank) == "" {
		p.LocalRank = p.Rank // all on one host, then
	}
	if l.name == "Slurm" && getenv("SLURM_STEP_NUM_NODES") == "1" {
		p.LocalSize = p.Size
	}
	var job []string
	for _, name := range l.job {
		job = append(job, getenv(name))
	}
	p.Group = strings.Join(job, "/")
	var err error
	p.Address, err = address(p, getenv)
	return p, err
}

func address(p Place, getenv func(string) string) (string, error) {
	if a := getenv(AddressEnv); a != "" {
		return a, nil
	}
	port := jobPort(p.Source + "/" + p.Group)
	if text := getenv("MASTER_PORT"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 65534 {
			return "", fmt.Errorf("MASTER_PORT=%q: want a port", text)
		}
		port = n
		if getenv("TORCHELASTIC_RUN_ID") != "" {
			port++
		}
	}
	host := getenv("MASTER_ADDR")
	switch {
	case p.LocalSize == p.Size:
		host = "127.0.0.1"
	case host == "" && p.Source == "Slurm":
		host = firstHost(getenv("SLURM_STEP_NODELIST"))
	}
	if host == "" {
		return "", fmt.Errorf("rank 0's address is unknown: set %s=host:port, or MASTER_ADDR and MASTER_PORT, on all ranks", AddressEnv)
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// jobPort is a port below those that systems give out by themselves.
func jobPort(job string) int {
	h := fnv.New32a()
	h.Write([]byte(job))
	return 20000 + int(h.Sum32()%8000)
}

// firstHost is the first of Slurm's compressed list: "gpu[003-008,011],x" is gpu003.
func firstHost(list string) string {
	prefix, rest, bracket := strings.Cut(list, "[")
	if first, _, several := strings.Cut(prefix, ","); several || !bracket {
		return first
	}
	first, _, _ := strings.Cut(rest, "]")
	first, _, _ = strings.Cut(first, ",")
	first, _, _ = strings.Cut(first, "-")
	return prefix + first
}
