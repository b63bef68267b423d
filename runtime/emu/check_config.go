package emu

// AliasRule says how strictly accesses through multicast and unicast addresses
// of one memory are held to PTX's rules for virtual aliases.
type AliasRule int

const (
	// AliasStrict wants a fence.proxy.alias on the path between two conflicting
	// accesses through different kinds of address, and lets no flag be written
	// through one kind and read through the other. This is PTX by the letter.
	AliasStrict AliasRule = iota
	// AliasPractical lets flags work across kinds of address and takes a kernel
	// boundary for a fence, as libraries rely on; data still needs the fence.
	AliasPractical
	// AliasOff makes no difference between kinds of address.
	AliasOff
)

// Schedule is how the next warp is chosen.
type Schedule int

const (
	// RandomWalk chooses among the warps that can run with equal chances.
	RandomWalk Schedule = iota
	// PCT runs the warp of the highest priority. Priorities are random, and
	// change at Judge.PCTDepth-1 random moments (Burckhardt et al., ASPLOS 2010).
	PCT
)

// Judge configures the modes Check and Explore. The zero value is usable.
type Judge struct {
	Alias AliasRule
	// Schedule and PCTDepth (default 3) say how warps are interleaved. PCTLength
	// (default 4096) is over how many turns the changes are spread.
	Schedule  Schedule
	PCTDepth  int
	PCTLength int
	// StepLimit bounds the warp instructions of all kernels together; where it
	// is reached the devices concerned fail and the verdict is Incomplete.
	// Default 1 << 30.
	StepLimit int64
	// AllowStalls keeps stalls (a timer had to fire because nothing else could
	// happen any more) out of the reports. A stall is otherwise one, as kernels
	// that wait with a deadline never deadlock.
	AllowStalls bool
	// NoUninitialised keeps reads of memory that nobody has written out of the
	// reports.
	NoUninitialised bool
	// NativeReduce, in Explore, rounds the partial sums of multimem.ld_reduce to
	// the type of the elements after every addition. Default: one rounding.
	NativeReduce bool
	// MaxStale (default 3), in Explore, is how many old values in a row a load
	// may return before it gets the newest. It ends every wait.
	MaxStale int
	// HostGraceMillis is for hosts that are several goroutines: how long, in
	// milliseconds of real time, a system that has come to rest waits for another
	// host to enqueue more before a timer fires or a deadlock is declared. Default
	// 100; negative: not at all, which is right for hosts of one goroutine.
	HostGraceMillis int
	// MaxReports is how many reports are kept; default 20.
	MaxReports int
}

func (j Judge) withDefaults() Judge {
	set := func(p *int, v int) {
		if *p <= 0 {
			*p = v
		}
	}
	set(&j.PCTDepth, 3)
	set(&j.PCTLength, 4096)
	set(&j.MaxStale, 3)
	set(&j.MaxReports, 20)
	if j.HostGraceMillis == 0 {
		j.HostGraceMillis = 100
	}
	if j.StepLimit <= 0 {
		j.StepLimit = 1 << 30
	}
	return j
}
