package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// parseTokens reads the token counts of steps: "7" is 7 on every rank, "0/1"
// one count for each rank; a comma goes to the next step.
func parseTokens(list string, ranks, most int, limit string) ([][]int, error) {
	var steps [][]int
	for text := range strings.SplitSeq(list, ",") {
		parts := strings.Split(strings.TrimSpace(text), "/")
		if len(parts) != 1 && len(parts) != ranks {
			return nil, fmt.Errorf("%q has counts for %d ranks, and there are %d: give one for all or one for each", text, len(parts), ranks)
		}
		counts := make([]int, ranks)
		for r := range counts {
			part := parts[0]
			if len(parts) > 1 {
				part = parts[r]
			}
			n, err := strconv.Atoi(part)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("%q is not a number of tokens", part)
			}
			if n > most {
				return nil, fmt.Errorf("%d tokens are more than %s %d", n, limit, most)
			}
			counts[r] = n
		}
		steps = append(steps, counts)
	}
	return steps, nil
}

// defaultTokens are the counts of a run that names none: one token, none on
// some ranks, uneven, and as many as suit a quick run on all; and where more
// than the capacity is allowed a prefill of one token more on one rank.
func defaultTokens(ranks, capacity, prefill int) [][]int {
	most := min(16, capacity)
	steps := make([][]int, 5)
	for i := range steps {
		steps[i] = make([]int, ranks)
	}
	for r := range ranks {
		steps[0][r] = 1
		steps[1][r] = (3 * r) % (most + 1) // none on rank 0
		steps[2][r] = (most - r%most)
		steps[4][r] = most
	}
	steps[3][ranks-1] = 1 // the others have none
	if prefill > capacity {
		counts := slices.Clone(steps[1])
		counts[ranks-1] = capacity + 1
		steps = slices.Insert(steps, 2, counts)
	}
	return steps
}
