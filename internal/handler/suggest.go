package handler

import (
	"fmt"
	"slices"
	"strings"
)

// nearest returns the candidate that name was most likely meant to be, or ""
// if none is near enough for the hint to help.
func nearest(name string, candidates []string) string {
	best, bestDist := "", len(name)/2+1
	for _, c := range candidates {
		d := distance(strings.ToLower(name), strings.ToLower(c))
		if d < bestDist || d == bestDist && best == "" && d <= 1 {
			best, bestDist = c, d
		}
	}
	return best
}

// didYouMean is the end of a text about an unknown name: the nearest candidate.
func didYouMean(name string, candidates []string) string {
	if n := nearest(name, candidates); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}

// hint is didYouMean, or else the list of all candidates.
func hint(name string, candidates []string) string {
	if s := didYouMean(name, candidates); s != "" {
		return s
	}
	if len(candidates) == 0 {
		return ""
	}
	sorted := slices.Clone(candidates)
	slices.Sort(sorted)
	const most = 8
	if len(sorted) > most {
		return fmt.Sprintf("; choose from %s and %d more", strings.Join(sorted[:most], ", "), len(sorted)-most)
	}
	return "; choose from " + strings.Join(sorted, ", ")
}

// distance is the number of edits (insert, delete, replace, swap neighbours)
// between a and b, in bytes.
func distance(a, b string) int {
	const tooLong = 256
	if len(a) > tooLong || len(b) > tooLong {
		return len(a) + len(b)
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
