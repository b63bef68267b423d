package spec

import (
	"slices"
	"strings"
)

// otherNames are what other systems call values of ours, no near spellings.
var otherNames = map[string]DType{
	"bfloat16": BF16, "torch.bfloat16": BF16,
	"float16": FP16, "half": FP16, "f16": FP16, "torch.float16": FP16,
	"float32": FP32, "float": FP32, "f32": FP32, "torch.float32": FP32,
	"int": Int32, "long": Int64,
}

// suggest returns the candidate that s was most likely meant to be, or "".
func suggest(s string, candidates []string) string {
	const longest = 40 // no field or value is near to anything longer
	if s == "" || len(s) > longest {
		return ""
	}
	if t := string(otherNames[strings.ToLower(s)]); slices.Contains(candidates, t) {
		return t
	}
	same := strings.NewReplacer("-", "_", " ", "_") // which of them is a matter of taste
	s = same.Replace(strings.ToLower(s))
	best, bestDist := "", len(s)
	for _, c := range candidates {
		// A third of the letters wrong is a typo; more is another word.
		if d := distance(s, same.Replace(c)); d < bestDist && d <= max(1, len(c)/3) {
			best, bestDist = c, d
		}
	}
	return best
}

// distance is the number of single-letter insertions, deletions, substitutions
// and swaps of neighbours between a and b.
func distance(a, b string) int {
	// Three rows of the classic table: before last, last and current.
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}
