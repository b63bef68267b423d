package race

import "fmt"

// AliasMode says how accesses through different mappings of the same memory
// relate; see the package comment.
type AliasMode uint8

// The alias modes.
const (
	Strict AliasMode = iota
	Practical
	Off
)

// SCMode says whether fence.sc operations synchronise in execution order.
type SCMode uint8

// The modes of fence.sc.
const (
	SCNoOrder SCMode = iota
	SCExact
)

// Config sets up a Detector.
type Config struct {
	Alias      AliasMode
	SC         SCMode
	Async      bool // check the async proxy
	Explore    bool // keep store histories for Candidates
	FlagsOnly  bool // keep them only where strong accesses have been before
	NoUninit   bool // do not report reads of bytes never written
	MaxReports int  // reports kept; 0 means 20
}

// Kind is what an access does.
type Kind uint8

// The kinds of access.
const (
	Read Kind = iota
	Write
	RMW
)

func (k Kind) String() string { return [...]string{"read", "write", "rmw"}[k] }

// Sem is the ordering of an access or fence.
type Sem uint8

// The orderings. Volatile is Relaxed at scope sys. SC on an access means
// AcqRel; on a fence it is fence.sc.
const (
	Weak Sem = iota
	Relaxed
	Acquire
	Release
	AcqRel
	SC
	Volatile
)

func (s Sem) String() string {
	return [...]string{"weak", "relaxed", "acquire", "release", "acq_rel", "sc", "volatile"}[s]
}

func (s Sem) acquires() bool { return s == Acquire || s == AcqRel || s == SC }
func (s Sem) releases() bool { return s == Release || s == AcqRel || s == SC }

// Scope is the set of threads a strong operation is for.
type Scope uint8

// The scopes, from narrow to wide.
const (
	CTA Scope = iota
	Cluster
	GPU
	Sys
	numScopes = 4
)

func (s Scope) String() string { return [...]string{"cta", "cluster", "gpu", "sys"}[s] }

// Path is the alias class of the address of an access. Further classes may be
// used by number.
type Path uint8

// The paths.
const (
	Unicast   Path = 0
	Multicast Path = 1
	PathAny   Path = 255 // host copies: in no class and no proxy
)

func (p Path) String() string {
	switch p {
	case Unicast:
		return "unicast"
	case Multicast:
		return "multicast"
	case PathAny:
		return "host"
	}
	return fmt.Sprintf("alias%d", uint8(p))
}

// Op describes an instruction that accesses memory. It is registered once, so
// that an access costs no more than its number.
type Op struct {
	Kind    Kind
	Sem     Sem
	Scope   Scope // of no account if Sem is Weak or Volatile
	Path    Path
	Elem    int  // bytes of an element of a vector access; 0: the access is one element
	NC      bool // ld.global.nc
	Async   bool // through the async proxy
	Red     bool // red: an RMW that returns nothing and so never acquires
	PTXLine int
	CUDALoc string
}

// OpID is a registered Op.
type OpID uint32

// attribute bits of an acc
const (
	aWrite uint8 = 1 << iota
	aStrong
	aAsync
	aNC
	aScopeShift = iota // two bits follow
)

type opInfo struct {
	Op
	attr uint8
	elem uint8
	path Path // as compared
}

// Op registers an instruction.
func (d *Detector) Op(o Op) OpID {
	if o.Sem == Volatile {
		o.Scope = Sys
	}
	i := opInfo{Op: o, elem: uint8(o.Elem)}
	if o.Kind != Read {
		i.attr |= aWrite
	}
	if o.Sem != Weak {
		i.attr |= aStrong
	}
	if o.Async && d.cfg.Async {
		i.attr |= aAsync
	}
	if o.NC {
		i.attr |= aNC
	}
	i.attr |= uint8(o.Scope) << aScopeShift
	if i.path = o.Path; d.cfg.Alias == Off && o.Path != PathAny {
		i.path = Unicast
	}
	d.ops = append(d.ops, i)
	return OpID(len(d.ops) - 1)
}

// acc is one access as the shadow memory keeps it. Epoch 0 means none.
type acc struct {
	epoch uint32
	slot  uint32
	warp  uint32 // index into Detector.warps
	op    OpID
	lane  uint8
	attr  uint8
	path  Path
	elem  uint8
}

func (a *acc) write() bool  { return a.attr&aWrite != 0 }
func (a *acc) strong() bool { return a.attr&aStrong != 0 }
func (a *acc) scope() Scope { return Scope(a.attr >> aScopeShift & 3) }
