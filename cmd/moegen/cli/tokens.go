package cli

import (
	"fmt"
	"strconv"
	"strings"
)

// parseTokens reads the token counts of steps: "7" is 7 on every rank, "0/1"
// one count for each rank; a comma goes to the next step.
func parseTokens(list string, ranks, capacity int, limit string) ([][]int, error) {
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
			if n > capacity {
				return nil, fmt.Errorf("%d tokens are more than %s %d", n, limit, capacity)
			}
			counts[r] = n
		}
		steps = append(steps, counts)
	}
	return steps, nil
}

// defaultTokens are the counts of a run that names none: one token, none on
// some ranks, uneven, and as many as suit a quick run on all.
func defaultTokens(ranks, capacity int) [][]int {
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
	return steps
}
