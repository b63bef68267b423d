package rendezvous

import "testing"

// BenchmarkErr is what every call of a step pays for liveness.
func BenchmarkErr(b *testing.B) {
	s := mustJoin(b, 1, nil)[0]
	for b.Loop() {
		if s.Err() != nil {
			b.Fatal("it has ended")
		}
	}
}
