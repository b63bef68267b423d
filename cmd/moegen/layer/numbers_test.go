package layer

import (
	"math"
	"math/rand/v2"
	"testing"

	moert "github.com/moegen/moegen/runtime"
)

// nearest rounds by searching the format's numbers: slow, and plainly right.
// The codes 0 to infinity of one sign are in ascending order of value.
func nearest(decode func(uint16) float32, inf uint16, f float32) uint16 {
	sign, a := uint16(0), float64(f)
	if math.Signbit(a) {
		sign, a = 0x8000, -a
	}
	value := func(i int) float64 {
		if i == int(inf) { // where the next number would be, if there were more
			return 2*float64(decode(inf-1)) - float64(decode(inf-2))
		}
		return float64(decode(uint16(i)))
	}
	lo, hi := 0, int(inf)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; value(mid) <= a {
			lo = mid
		} else {
			hi = mid
		}
	}
	below, above := a-value(lo), value(hi)-a
	if above < below || above == below && hi%2 == 0 {
		lo = hi
	}
	return sign | uint16(lo)
}

func TestConversions(t *testing.T) {
	for _, c := range []struct {
		name   string
		inf    uint16
		encode func(float32) uint16
		decode func(uint16) float32
	}{
		{"bf16", 0x7f80, toBF16, fromBF16},
		{"fp16", 0x7c00, toFP16, fromFP16},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := func(f float32) {
				if got, want := c.encode(f), nearest(c.decode, c.inf, f); got != want {
					t.Fatalf("%v (%#08x) is %#04x, not %#04x", f, math.Float32bits(f), got, want)
				}
			}
			for h := range c.inf {
				f := c.decode(h)
				if got := c.encode(f); got != h {
					t.Fatalf("%#04x is %v and that %#04x", h, f, got)
				}
				if got := c.encode(-f); got != h|0x8000 {
					t.Fatalf("-%#04x becomes %#04x", h, got)
				}
				// Half way to the next, and its two neighbours.
				if half := (float64(f) + float64(c.decode(h+1))) / 2; h+1 < c.inf {
					check(float32(half))
					check(math.Nextafter32(float32(half), 0))
					check(math.Nextafter32(float32(half), math.MaxFloat32))
				}
			}
			rng := rand.New(rand.NewPCG(1, 1))
			for range 100000 {
				if f := math.Float32frombits(rng.Uint32()); f == f && !math.IsInf(float64(f), 0) {
					check(f)
				}
			}
			if c.encode(float32(math.Inf(-1))) != c.inf|0x8000 || c.encode(math.MaxFloat32) != c.inf {
				t.Error("infinities")
			}
			if got := c.decode(c.encode(float32(math.NaN()))); got == got {
				t.Errorf("NaN becomes %v", got)
			}
		})
	}
	if fromBF16(0x3f80) != 1 || fromFP16(0x3c00) != 1 || fromFP16(1) != 1.0/(1<<24) || !math.IsInf(float64(fromFP16(0x7c00)), 1) {
		t.Error("known numbers")
	}
}

func TestHalfULP(t *testing.T) {
	for _, c := range []struct {
		dtype     moert.DType
		magnitude float64
		want      float64
	}{
		{moert.BF16, 1, 1.0 / 256},
		{moert.BF16, 1.99, 1.0 / 256},
		{moert.BF16, 2, 1.0 / 128},
		{moert.FP16, 1, 1.0 / 2048},
		{moert.FP16, 0, math.Ldexp(1, -25)},
		{moert.FP16, math.Ldexp(1, -20), math.Ldexp(1, -25)},
		{moert.FP32, 1, math.Ldexp(1, -24)},
		{moert.FP32, 0, math.Ldexp(1, -150)},
		{moert.BF16, 0, math.Ldexp(1, -134)},
	} {
		if got := halfULP(c.dtype, c.magnitude); got != c.want {
			t.Errorf("%s at %v: %v, not %v", c.dtype, c.magnitude, got, c.want)
		}
	}
}
