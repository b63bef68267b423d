package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/moegen/moegen/runtime/cuda"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nccl"
)

// TransportEnv names the environment variable that asks for a transport.
const TransportEnv = "MOEGEN_TRANSPORT"

// ballot is what a rank tells the others before anything is allocated.
type ballot struct {
	Version  int
	Program  string // hash of the spec
	Plan     []PlanRow
	Wanted   Transport            // "" leaves the choice open
	Refusals map[Transport]string // why this rank cannot use a transport
	Windows  bool                 // this rank's libnccl can make symmetric memory
}

// verdict is what a vote came to.
type verdict struct {
	usable   []Transport // in the program's order
	refusals []Refusal
	why      string // the first of them is used
	windows  bool   // on all ranks
}

// vote finds the transports that all ranks can use, in the program's order,
// and everything that speaks against the others. It returns the same on all
// ranks.
func vote(ctx context.Context, g Group, rank int, p *Program, o *options) (*verdict, error) {
	if p.Ranks == 1 {
		return &verdict{usable: []Transport{P2P}, why: whyTransport(p, "", "")}, nil // with no peers
	}
	mine := ballot{Version: Version, Program: p.SpecHash, Plan: p.Plan, Wanted: o.transport,
		Refusals: map[Transport]string{}, Windows: haveWindows(g, rank)}
	by := "WithTransport"
	if mine.Wanted == "" {
		mine.Wanted, by = Transport(os.Getenv(TransportEnv)), TransportEnv
	}
	for _, t := range p.Transports {
		if reason := refuse(g, rank, t); reason != "" {
			mine.Refusals[t] = reason
		}
	}
	msg, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	all, err := g.AllGather(ctx, rank, msg)
	if err != nil {
		return nil, err
	}
	ballots := make([]ballot, len(all))
	for r, m := range all {
		if err := json.Unmarshal(m, &ballots[r]); err != nil {
			return nil, fmt.Errorf("%w: rank %d sent a ballot that cannot be read: %v", ErrGroup, r, err)
		}
	}
	v, err := count(p, ballots)
	if err == nil {
		v.why = whyTransport(p, mine.Wanted, by)
	}
	return v, err
}

// count is the part of vote that every rank does alike.
func count(p *Program, ballots []ballot) (*verdict, error) {
	first := ballots[0]
	v := &verdict{windows: true}
	for r, b := range ballots {
		v.windows = v.windows && b.Windows
		switch {
		case b.Version != first.Version:
			return nil, fmt.Errorf("%w: rank %d has runtime interface %d and rank 0 %d: build all ranks from one version", ErrGroup, r, b.Version, first.Version)
		case b.Program != first.Program:
			return nil, fmt.Errorf("%w: rank %d was generated from another spec (%.12s) than rank 0 (%.12s)", ErrGroup, r, b.Program, first.Program)
		case !slices.Equal(b.Plan, first.Plan):
			return nil, fmt.Errorf("%w: rank %d has another plan than rank 0", ErrGroup, r)
		case b.Wanted != first.Wanted:
			return nil, fmt.Errorf("%w: rank %d asks for transport %q and rank 0 for %q", ErrGroup, r, b.Wanted, first.Wanted)
		}
		for _, t := range p.Transports {
			if reason, ok := b.Refusals[t]; ok {
				v.refusals = append(v.refusals, Refusal{Rank: r, Transport: t, Reason: reason})
			}
		}
	}
	if first.Wanted != "" && !slices.Contains(p.Transports, first.Wanted) {
		return nil, fmt.Errorf("%w: transport %q was asked for; the spec generates %v", ErrNoTransport, first.Wanted, p.Transports)
	}
	for _, t := range p.Transports {
		refused := slices.ContainsFunc(v.refusals, func(r Refusal) bool { return r.Transport == t })
		if !refused && (first.Wanted == "" || first.Wanted == t) {
			v.usable = append(v.usable, t)
		}
	}
	if v.usable == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoTransport, joinRefusals(v.refusals))
	}
	return v, nil
}

// refuse says why a rank cannot use a transport, "" if nothing is known
// against it. It allocates nothing and makes no multicast call.
func refuse(g Group, rank int, t Transport) string {
	d, err := g.Device(rank)
	if err != nil {
		return err.Error()
	}
	if r, ok := g.(interface{ refuse(Transport) string }); ok {
		if reason := r.refuse(t); reason != "" {
			return reason
		}
	}
	if n := ranksOn(g, d); n > 1 && t != P2P {
		return fmt.Sprintf("%d ranks share GPU %d, and %s needs one for each", n, d.Ordinal(), t)
	}
	switch t {
	case NVLS:
		if reason := refuseMulticast(d); reason != "" {
			return reason
		}
		return refusePeers(g, rank, d) // flags go to each peer by unicast
	case P2P:
		return refusePeers(g, rank, d)
	case NCCL:
		if _, ok := d.Driver().(collectiveMaker); ok {
			return ""
		}
		if _, err := nccl.Open(); err != nil {
			return err.Error()
		}
		return ""
	}
	return fmt.Sprintf("unknown transport %q", t)
}

// ranksOn counts the ranks of this process that are on a device.
func ranksOn(g Group, d driver.Device) int {
	n := 0
	for r := range g.Size() {
		if other, err := g.Device(r); err == nil && other == d {
			n++
		}
	}
	return n
}

// haveWindows reports whether NCCL can make symmetric memory for the rank. Only
// real GPUs have NCCL; the emulator's stand-in offers collectives alone.
func haveWindows(g Group, rank int) bool {
	d, err := g.Device(rank)
	if err != nil || d.Driver().Name() != "cuda" {
		return false
	}
	lib, err := nccl.Open()
	return err == nil && lib.HasWindows()
}

func refuseMulticast(d driver.Device) string {
	// Whoever set one of these variables knows that multicast is broken here;
	// an emulated machine is not meant.
	if name := cuda.MulticastDisabledBy(); name != "" && d.Driver().Name() == "cuda" {
		return fmt.Sprintf("%s=%s turns multicast off", name, os.Getenv(name))
	}
	ok, err := d.Attribute(driver.AttrMulticastSupported)
	if err != nil {
		return fmt.Sprintf("multicast support is unknown: %v", err)
	}
	if ok == 0 {
		return fmt.Sprintf("GPU %d (%s) does not support multicast, or this binary was built without it", d.Ordinal(), d.Info().Name)
	}
	return ""
}

func refusePeers(g Group, rank int, d driver.Device) string {
	for peer := range g.Size() {
		if peer == rank {
			continue
		}
		other, err := g.Device(peer)
		if errors.Is(err, errElsewhere) {
			continue
		}
		if err != nil {
			return err.Error()
		}
		if other == d {
			continue
		}
		ok, err := d.CanAccessPeer(other)
		if err != nil {
			return fmt.Sprintf("peer access to rank %d is unknown: %v", peer, err)
		}
		if !ok {
			return fmt.Sprintf("GPU %d cannot access the memory of rank %d's GPU %d", d.Ordinal(), peer, other.Ordinal())
		}
	}
	return ""
}
