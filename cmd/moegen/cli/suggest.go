package cli

// closest returns the candidate that s is most likely a misspelling of, "" if
// none is near.
func closest(s string, candidates []string) string {
	best, least := "", len(s)
	for _, c := range candidates {
		if d := distance(s, c); d < least && d <= (len(c)+1)/3 {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete or replace to get from
// a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(d, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
