package rendezvous

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// differences says which ranks differ from the first in what must be the same.
func differences(ms []Member) []string {
	var out []string
	for _, m := range ms[min(1, len(ms)):] {
		first := ms[0]
		differ := func(what string, mine, its any) {
			out = append(out, fmt.Sprintf("rank %d (%s, pid %d) has %s %v and rank %d has %v", m.Rank, m.Host, m.PID, what, mine, first.Rank, its))
		}
		if m.Protocol != first.Protocol {
			differ("rendezvous protocol", m.Protocol, first.Protocol)
		}
		if m.Size != first.Size {
			differ("group size", m.Size, first.Size)
		}
		names := slices.Collect(maps.Keys(m.Same))
		for name := range first.Same {
			if _, ok := m.Same[name]; !ok {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			mine, ok := m.Same[name]
			its, has := first.Same[name]
			if ok != has || mine != its {
				differ(name, shown(mine, ok), shown(its, has))
			}
		}
	}
	return out
}

func shown(v string, ok bool) string {
	if !ok {
		return "none"
	}
	return fmt.Sprintf("%q", v)
}

func joinProblems(ps []string) string { return strings.Join(ps, "; ") }

// ranks names ranks: "rank 3", "ranks 1 and 3", "ranks 1, 2 and 3".
func ranks(rs []int) string {
	var text []string
	for _, r := range rs {
		text = append(text, fmt.Sprint(r))
	}
	switch n := len(text); n {
	case 0:
		return "no rank"
	case 1:
		return "rank " + text[0]
	default:
		return "ranks " + strings.Join(text[:n-1], ", ") + " and " + text[n-1]
	}
}
