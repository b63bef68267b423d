package layer

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/spec"
)

// perfect is one layer of a step, and what a faultless machine would leave of
// it on every rank.
func perfect(t *testing.T, text string, counts []int) (*reference, []*observed) {
	t.Helper()
	s, err := spec.Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Program(s)
	if err != nil {
		t.Fatal(err)
	}
	ref := makeReferences(newInputs(s, p, 7), owners(s), 1, 3, counts, s.MaxTokens)[0]
	all := make([]*observed, p.Ranks)
	exchanges := max(1, (slices.Max(counts)+s.MaxTokens-1)/s.MaxTokens)
	for r := range ref.inputs {
		o := &observed{outPoisoned: true, results: simulate(ref, r)}
		for e := range exchanges {
			o.gathered = append(o.gathered, gatheredBy(ref.exchange(e, exchanges), r))
		}
		for _, t := range outputs(p) {
			rows := t.bytes(&o.results)
			*rows = append(*rows, bytes.Repeat([]byte{poison}, 3*t.rowBytes)...)
		}
		all[r] = o
	}
	return ref, all
}

// gatheredBy is what a rank has after a Dispatch of the reference's inputs.
func gatheredBy(ref *reference, rank int) gathered {
	var g gathered
	ranks, rows, most := len(ref.inputs), 0, 0
	step := make([]uint32, stepWords(ranks))
	for r, in := range ref.inputs {
		step[6+r], step[6+ranks+r] = uint32(in.tokens), uint32(rows)
		rows, most = rows+in.tokens, max(most, in.tokens)
	}
	step[0], step[1], step[2], step[6+2*ranks] = uint32(rows), uint32(most), uint32(ref.inputs[rank].tokens), uint32(rows)
	step[4], step[5] = uint32(rows), uint32(ref.capacity)
	g.step = words(step)
	for _, t := range tensors(ref.prog) {
		to := t.observed(&g)
		for _, in := range ref.inputs {
			*to = append(*to, t.input(in)...)
		}
		*to = append(*to, bytes.Repeat([]byte{poison}, 3*t.rowBytes)...)
	}
	return g
}

func words(w []uint32) []byte {
	var b []byte
	for _, x := range w {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return b
}

// simulate computes a rank's results as the kernels do, in fp32, with the ranks
// in a random order.
func simulate(ref *reference, rank int) results {
	p, in, c := ref.prog, ref.inputs[rank], &ref.spec.Combine
	var res results
	for _, t := range outputs(p) {
		*t.bytes(&res) = make([]byte, in.tokens*t.rowBytes)
	}
	scratch := make([]byte, 4)
	rng := rand.New(rand.NewPCG(5, uint64(rank)))
	row := make([]float32, p.HiddenDim)
	for t := range in.tokens {
		weights := make([]float32, p.Ranks)
		for k := range p.TopK {
			e := in.experts[t*p.TopK+k]
			weights[ref.owner[e]] += float32(in.weights[t*p.TopK+k]) * float32(scale(e))
		}
		var squares float32
		for e := range row {
			i := t*p.HiddenDim + e
			var sum float32
			for _, r := range rng.Perm(p.Ranks) {
				put(scratch, 0, p.Wire, weights[r]*float32(get(in.hidden, i, p.Hidden)))
				sum += float32(get(scratch, 0, p.Wire))
			}
			if p.Epilogue.Shared {
				sum += float32(get(in.shared, i, p.Hidden))
			}
			if c.Has(spec.Scale) {
				sum *= float32(c.Scale)
			}
			if p.Epilogue.Residual {
				sum += float32(get(in.residual, i, p.Hidden))
			}
			row[e] = sum
			squares += sum * sum
			if p.Epilogue.Sum {
				put(res.sum, i, p.Hidden, sum)
			}
		}
		if p.Epilogue.Norm != "" {
			factor := 1 / float32(math.Sqrt(float64(squares/float32(p.HiddenDim)+float32(c.RMSNorm.Eps))))
			for e := range row {
				row[e] = row[e] * factor * float32(get(in.weight, e, p.Epilogue.Norm))
			}
		}
		for e, x := range row {
			i := t*p.HiddenDim + e
			switch {
			case p.Epilogue.Output == moert.FP8 && e%quantBlock == 0:
				put(res.scales, i/quantBlock, moert.FP32, quantize(res.out[i:][:quantBlock], row[e:][:quantBlock]))
			case p.Epilogue.Output == moert.FP8:
			case p.Epilogue.Output != "":
				put(res.out, i, p.Epilogue.Output, x)
			default:
				put(res.out, i, p.Hidden, x)
			}
		}
	}
	return res
}

const small = "hidden_dim: 32\ntopk: 3\nnum_experts: 12\ndtype: bf16\nep_size: 4\nmax_tokens: 16\n"

const fusedSmall = "hidden_dim: 256\ntopk: 3\nnum_experts: 12\ndtype: bf16\nep_size: 4\nmax_tokens: 16\n" +
	"combine: {epilogue: [add_shared, scale, residual, rmsnorm], scale: 2.5, rmsnorm: {weight: bf16}, output: fp8_e4m3_block128}\n"

func TestPerfect(t *testing.T) {
	for _, text := range []string{
		small,
		strings.Replace(small, "bf16", "fp16", 1),
		strings.Replace(small, "bf16", "fp32", 1),
		small + "combine: {wire: fp32}\nprobs_dtype: fp32\nrouting_dtype: int64\n",
		fusedSmall,
		strings.Replace(fusedSmall, "residual, rmsnorm], scale: 2.5, rmsnorm: {weight: bf16}", "residual], scale: 2.5", 1),
		small + "combine: {epilogue: [rmsnorm], rmsnorm: {weight: fp16}}\n",
		small + "combine: {wire: fp32, epilogue: [residual], output: fp32}\n",
		small + "combine: {epilogue: [scale], scale: -3.14159}\n",
		"hidden_dim: 512\ntopk: 32\nnum_experts: 72\ndtype: bf16\nep_size: 72\nmax_tokens: 16\n",
	} {
		ranks := 4
		if strings.Contains(text, "72") {
			ranks = 72
		}
		counts := make([]int, ranks)
		for r := range counts {
			counts[r] = r * 5 % 17
		}
		ref, all := perfect(t, text, counts)
		for r, o := range all {
			v := ref.verify(r, o, newRounding(ref.spec, ref.prog, moert.P2P, "emu"))
			if len(v.faults) > 0 || v.units > 1 {
				t.Errorf("%s: rank %d: %v (error %v)", text, r, v.faults, v.units)
			}
			// A bound that nothing comes near would not find anything.
			if counts[r] > 4 && v.units < 0.05 {
				t.Errorf("%s: rank %d: largest error is %v of the bound", text, r, v.units)
			}
		}
	}
}

// TestVerifierCatches: every kind of damage is found, on the rank that has it.
func TestVerifierCatches(t *testing.T) {
	counts := []int{2, 0, 5, 3}
	p := func(ref *reference) *moert.Program { return ref.prog }
	for _, c := range []struct {
		name   string
		damage func(ref *reference, o *observed)
		want   string
	}{
		{"flipped bit in hidden", func(_ *reference, o *observed) { o.gathered[0].hidden[130] ^= 4 }, "gathered hidden: 1 of rank 2's 5 rows differ, first row 0"},
		{"flipped bit in probs", func(_ *reference, o *observed) { o.gathered[0].probs[1] ^= 0x80 }, "gathered probs: 1 of rank 0's 2 rows"},
		{"flipped bit in routing", func(_ *reference, o *observed) { o.gathered[0].routing[9*12] ^= 1 }, "gathered routing: 1 of rank 3's 3 rows"},
		{"swapped rows", func(ref *reference, o *observed) { swapRows(o.gathered[0].hidden, 3, 4, p(ref).HiddenRowBytes()) }, "it is rank 2's row 2"},
		{"lost row", func(ref *reference, o *observed) { fillRow(o.gathered[0].hidden, 8, p(ref).HiddenRowBytes(), poison) }, "never written"},
		{"row from past the input", func(ref *reference, o *observed) {
			fillRow(o.gathered[0].hidden, 8, p(ref).HiddenRowBytes(), inputPoison)
		}, "a row past a rank's tokens"},
		{"row past the last", func(ref *reference, o *observed) { o.gathered[0].hidden[10*p(ref).HiddenRowBytes()+7] = 0 }, "gathered hidden: row 10, past the last token, was written"},
		{"total", func(_ *reference, o *observed) { o.gathered[0].step[0]++ }, "step: total is 11, not 10"},
		{"max", func(_ *reference, o *observed) { o.gathered[0].step[4]++ }, "step: max is 6"},
		{"local", func(_ *reference, o *observed) { o.gathered[0].step[8]++ }, "step: local is 6"},
		{"count", func(_ *reference, o *observed) { o.gathered[0].step[24+4]++ }, "step: count of rank 1 is 1"},
		{"offset", func(_ *reference, o *observed) { o.gathered[0].step[24+16+12]++ }, "step: offset 3 is 8"},
		{"output past the last", func(ref *reference, o *observed) { o.out[5*p(ref).HiddenRowBytes()] = 0 }, "output: row 5, past the last token"},
		{"output rows swapped", func(ref *reference, o *observed) { swapRows(o.out, 0, 1, p(ref).HiddenRowBytes()) }, "output: token 0"},
		{"output never written", func(ref *reference, o *observed) { fillRow(o.out, 4, p(ref).HiddenRowBytes(), poison) }, "output: token 4 element 0 is NaN"},
		{"missing rank", func(ref *reference, o *observed) { o.out = without(ref, 2, 3, o.out) }, "output: token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ref, all := perfect(t, small, counts)
			const rank = 2
			c.damage(ref, all[rank])
			v := ref.verify(rank, all[rank], newRounding(ref.spec, ref.prog, moert.P2P, "emu"))
			if !strings.Contains(strings.Join(v.faults, "\n"), c.want) {
				t.Errorf("found %q, not %q", v.faults, c.want)
			}
			for r := range counts {
				if r == rank {
					continue
				}
				if v := ref.verify(r, all[r], newRounding(ref.spec, ref.prog, moert.P2P, "emu")); len(v.faults) > 0 {
					t.Errorf("rank %d is blamed: %v", r, v.faults)
				}
			}
		})
	}
}

// TestVerifierCatchesExchange: what is wrong in one exchange of a prefill is
// told of that one.
func TestVerifierCatchesExchange(t *testing.T) {
	counts := []int{37, 0, 16, 5} // of 16 at a time
	for want, damage := range map[string]func(o *observed){
		"": func(*observed) {},
		"exchange 1: gathered hidden: 1 of rank 0's 16 rows differ, first row 3": func(o *observed) { o.gathered[1].hidden[3*64+5] ^= 1 },
		"exchange 2: gathered probs: row 5, past the last token":                 func(o *observed) { o.gathered[2].probs[5*12] = 0 },
		"exchange 2: step: total is 6, not 5":                                    func(o *observed) { o.gathered[2].step[0]++ },
		"exchange 1: gathered routing: 16 of rank 0's 16 rows differ":            func(o *observed) { o.gathered[1].routing = o.gathered[0].routing },
		"output: token 36 element 0":                                             func(o *observed) { fillRow(o.out, 36, 64, poison) },
	} {
		ref, all := perfect(t, small, counts)
		damage(all[0])
		v := ref.verify(0, all[0], newRounding(ref.spec, ref.prog, moert.P2P, "emu"))
		if got := strings.Join(v.faults, "\n"); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("found %q, not %q", got, want)
		}
		if v.gathered != 58 {
			t.Errorf("%d rows were gathered, not 58", v.gathered)
		}
	}
}

// TestOutputFlippedBits: the bound is tight enough that an element some units in
// the last place away is found wherever the partial sums' own rounding allows.
func TestOutputFlippedBits(t *testing.T) {
	ref, all := perfect(t, small, []int{4, 4, 4, 4})
	p := ref.prog
	found, tried := 0, 0
	for i := range 4 * p.HiddenDim {
		o := *all[0]
		o.out = slices.Clone(o.out)
		o.out[2*i] ^= 1 << 3 // eight units in the last place
		tried++
		if v := ref.verify(0, &o, newRounding(ref.spec, p, moert.P2P, "emu")); len(v.faults) > 0 {
			found++
		}
	}
	// Elements where large partial sums cancel have honest errors of that size.
	if found < tried*8/10 {
		t.Errorf("%d of %d errors of eight units in the last place were found", found, tried)
	}
}

func TestFaultsAreLimited(t *testing.T) {
	ref, all := perfect(t, small, []int{4, 4, 4, 4})
	clear(all[1].out)
	v := ref.verify(1, all[1], newRounding(ref.spec, ref.prog, moert.NCCL, "emu"))
	if len(v.faults) != maxFaults || v.more < 50 {
		t.Errorf("%d faults and %d more", len(v.faults), v.more)
	}
}

func swapRows(b []byte, i, j, size int) {
	row := slices.Clone(b[i*size:][:size])
	copy(b[i*size:], b[j*size:][:size])
	copy(b[j*size:], row)
}

func fillRow(b []byte, i, size int, v byte) {
	for k := range size {
		b[i*size+k] = v
	}
}

// without takes rank lost's contribution out of rank's output.
func without(ref *reference, rank, lost int, out []byte) []byte {
	p, in := ref.prog, ref.inputs[rank]
	out = slices.Clone(out)
	for t := range in.tokens {
		var w float64
		for k := t * p.TopK; k < (t+1)*p.TopK; k++ {
			if ref.owner[in.experts[k]] == lost {
				w += in.weights[k] * scale(in.experts[k])
			}
		}
		for i := t * p.HiddenDim; i < (t+1)*p.HiddenDim; i++ {
			put(out, i, p.Hidden, float32(get(out, i, p.Hidden)-w*get(in.hidden, i, p.Hidden)))
		}
	}
	return out
}
