package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Version is one of several that are measured in turn.
type Version struct {
	Name   string
	Config Config // its token counts are those of Alternate
	Wrong  bool   // its results are not verified: a part of what the kernels do, to see what that takes
}

// Alternated is what one version's operations of so many tokens took, each in a
// graph with others of its kind: for every round the median of its replays, in
// microseconds.
type Alternated struct {
	Version  string    `json:"version"`
	Protocol string    `json:"protocol"`
	Tokens   int       `json:"tokens"`
	Dispatch []float64 `json:"dispatch_us"`
	Combine  []float64 `json:"combine_us"`
	Pair     []float64 `json:"pair_us"` // a dispatch and a combine in turn
	Few      []float64 `json:"few_us"`  // the graph of Pair replayed with fewTokens, if those are fewer
}

const fewTokens = 8

// Alternate measures versions of a program in turn, round by round, so that what
// changes on the machine meanwhile concerns all of them alike. Each that is not
// Wrong is verified first and last. The result has all versions of the first token count, then
// those of the next.
func Alternate(ctx context.Context, tokens []int, rounds int, versions ...Version) (list []Alternated, err error) {
	opened, failed := make([]*bench, len(versions)), make([]error, len(versions))
	defer func() {
		for _, b := range opened {
			err = errors.Join(err, b.close())
		}
	}()
	var wg sync.WaitGroup
	for i, v := range versions {
		v.Config.Tokens = tokens
		wg.Go(func() { // each compiles its kernels
			var err error
			if opened[i], err = open(ctx, v.Config); err != nil {
				failed[i] = fmt.Errorf("%s: %w", v.Name, err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return nil, err
	}
	for _, n := range tokens {
		rows := make([]Alternated, len(versions))
		each := func(what string, f func(i int, b *bench) error) error {
			for i, b := range opened {
				if err := errors.Join(f(i, b), ctx.Err()); err != nil {
					return fmt.Errorf("%s, %d tokens, %s: %w", versions[i].Name, n, what, err)
				}
			}
			return nil
		}
		verify := func(i int, b *bench) error {
			if versions[i].Wrong {
				return nil
			}
			return b.verify(ctx, n)
		}
		if err := each("before measuring", verify); err != nil {
			return list, err
		}
		for range rounds {
			if err := each("measuring", func(i int, b *bench) error {
				row := b.newRow(n)
				if err := b.measureKernels(row); err != nil {
					return err
				}
				if row.Dispatch == nil {
					return errors.New("over nccl operations are not measured by themselves")
				}
				pair, err := b.pair(n, n)
				if err != nil {
					return err
				}
				few := pair
				if n > fewTokens {
					if few, err = b.pair(n, fewTokens); err != nil {
						return err
					}
				}
				r := &rows[i]
				r.Version, r.Protocol, r.Tokens = versions[i].Name, row.Protocol, n
				r.Dispatch, r.Combine = append(r.Dispatch, row.Dispatch.Median), append(r.Combine, row.Combine.Median)
				r.Pair, r.Few = append(r.Pair, pair.Median), append(r.Few, few.Median)
				return nil
			}); err != nil {
				return list, err
			}
		}
		if err := each("after measuring", verify); err != nil {
			return list, err
		}
		list = append(list, rows...)
	}
	return list, nil
}

// Median of a list that is not empty.
func Median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
