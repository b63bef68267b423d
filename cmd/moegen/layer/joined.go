package layer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moegen/moegen/runtime/symm"
)

// runJoined is Run in a process that is one rank of a group.
func runJoined(ctx context.Context, c Config) (*Result, error) {
	x := newRun(c, 0)
	r, err := newRank(ctx, &x.config, c.Joined, c.Joined.Rank())
	if r == nil {
		return nil, err // all ranks have it: building a dispatcher fails on all
	}
	x.ranks = append(x.ranks, r)
	if err = x.agree(ctx, "set up", err); err == nil {
		x.describe()
		err = x.steps(ctx)
	}
	if err := errors.Join(err, x.close()); err != nil {
		return nil, err
	}
	return x.result, nil
}

// agree makes one process's error everybody's. It also holds back whoever is
// early: what comes after it has all ranks' part of what comes before.
func (x *run) agree(ctx context.Context, what string, err error) error {
	g := x.config.Joined
	if g == nil {
		return err
	}
	if gone := g.Err(); gone != nil {
		return gone
	}
	return symm.Agree(ctx, g, g.Rank(), what, err)
}

// part is one process's part of a step.
type part struct {
	Ranks []Rank
	Error string
}

// merge puts all processes' parts of a step together.
func (x *run) merge(ctx context.Context, s *Step, err error) error {
	g := x.config.Joined
	if g == nil {
		return err
	}
	p := part{Ranks: s.Ranks}
	if err != nil {
		p.Error = err.Error()
	}
	text, jerr := json.Marshal(p)
	if jerr != nil {
		return errors.Join(err, jerr)
	}
	all, gerr := g.AllGather(ctx, g.Rank(), text)
	if gerr != nil {
		if err != nil {
			return err // says more
		}
		return gerr
	}
	s.Ranks = nil
	for r, text := range all {
		var p part
		if err := json.Unmarshal(text, &p); err != nil {
			return fmt.Errorf("rank %d: a result that cannot be read: %w", r, err)
		}
		if p.Error != "" && err == nil {
			err = errors.New(p.Error)
		}
		s.Ranks = append(s.Ranks, p.Ranks...)
	}
	slices.SortFunc(s.Ranks, func(a, b Rank) int { return a.Rank - b.Rank })
	return err
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *number) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(strings.Trim(string(b), `"`), 64)
	*n = number(f)
	return err
}
