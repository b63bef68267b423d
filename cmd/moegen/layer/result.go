package layer

import (
	"fmt"
	"time"

	moert "github.com/moegen/moegen/runtime"
)

// Result is what a run found.
type Result struct {
	Transport moert.Transport `json:"transport"`
	Provider  string          `json:"memory"`          // who made the symmetric memory
	Image     string          `json:"kernels"`         // where the kernels came from
	Experts   string          `json:"experts_kernels"` // where the experts' came from
	Refusals  []string        `json:"refusals,omitempty"`
	Steps     []Step          `json:"steps"`

	config Config
	kept   []kept // parallel to Steps
}

// Step is one eager step, one replay or one prefill.
type Step struct {
	Index   int    `json:"index"` // of prefills among themselves; of others in their part of the run
	Graph   bool   `json:"graph"`
	Prefill bool   `json:"prefill"`
	Ranks   []Rank `json:"ranks"`
	// Took is the time from the first call to the end on all of this process's
	// ranks.
	Took time.Duration `json:"-"`
}

// Name is what to call the step.
func (s *Step) Name() string {
	switch {
	case s.Prefill:
		return fmt.Sprintf("prefill %d", s.Index)
	case s.Graph:
		return fmt.Sprintf("replay %d", s.Index)
	}
	return fmt.Sprintf("eager %d", s.Index)
}

// Rank is what one rank's layers of a step came to.
type Rank struct {
	Rank     int `json:"rank"`
	Tokens   int `json:"tokens"`
	Gathered int `json:"gathered"`
	// MaxError is the largest error of an output element over what rounding
	// can explain; more than 1 is a fault.
	MaxError number `json:"max_error_of_bound"`
	// MaxAbsolute is the largest error of an output element.
	MaxAbsolute number   `json:"max_absolute_error"`
	Faults      []string `json:"faults,omitempty"`
	MoreFaults  int      `json:"more_faults,omitempty"`
}

// number is a float64 that JSON can hold: it has no infinities.
type number float64

// MarshalJSON writes infinities as text.
func (n number) MarshalJSON() ([]byte, error) { return marshalNumber(float64(n)) }

// OK says that the rank got what it should.
func (r *Rank) OK() bool { return len(r.Faults) == 0 }

// OK says that every rank of every step got what it should.
func (r *Result) OK() bool {
	for _, s := range r.Steps {
		for i := range s.Ranks {
			if !s.Ranks[i].OK() {
				return false
			}
		}
	}
	return true
}

// MaxError is the largest of the ranks' errors, in units of their bounds.
func (r *Result) MaxError() float64 {
	var most number
	for _, s := range r.Steps {
		for _, rank := range s.Ranks {
			most = max(most, rank.MaxError)
		}
	}
	return float64(most)
}
