package mutation

import (
	"regexp"
	"strings"
	"testing"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// source is PTX whose lines can be replaced.
type source struct {
	lines []string
	mod   *ptx.Module
}

func parseSource(t testing.TB, text []byte) *source {
	t.Helper()
	mod, err := ptx.Parse("testdata", text)
	if err != nil {
		t.Fatal(err)
	}
	return &source{lines: strings.Split(string(text), "\n"), mod: mod}
}

// keep blanks the kernels that have other names: what is not run need not be
// parsed for every mutant.
func (s *source) keep(names map[string]bool) {
	for _, f := range s.mod.Funcs {
		if names[f.Name] {
			continue
		}
		for l := f.Line - 1; ; l++ {
			last := s.lines[l] == "}"
			s.lines[l] = ""
			if last {
				break
			}
		}
	}
}

// edit replaces a line, by one line: lines keep their numbers, so that a report
// about a mutant can be read beside the original.
type edit struct {
	line int
	text string
}

func (s *source) apply(edits []edit) []byte {
	lines := append([]string(nil), s.lines...)
	for _, e := range edits {
		lines[e.line-1] = e.text
	}
	return []byte(strings.Join(lines, "\n"))
}

// kernel is a function with what operators want to know about it.
type kernel struct {
	*ptx.Func
	src   *source
	roles roles
	ranks int
	// protocolOnly leaves out what does not depend on the number of ranks.
	protocolOnly bool
}

func (k *kernel) line(in *ptx.Instr) string { return strings.TrimSpace(k.src.lines[in.Line-1]) }

// at returns the address operand of a memory instruction, nil if it has none.
func at(in *ptx.Instr) *ptx.Operand {
	for _, list := range [][]ptx.Operand{in.Src, in.Dst} {
		for i := range list {
			if list[i].Kind == ptx.MemOperand {
				return &list[i]
			}
		}
	}
	return nil
}

// def returns the index of the last instruction before i that writes the
// register, -1 if there is none. The compiler writes nearly every register
// once.
func (k *kernel) def(i, reg int) int {
	for i--; i >= 0; i-- {
		for _, d := range k.Body[i].Dst {
			if d.Kind == ptx.RegOperand && d.Reg == reg {
				return i
			}
			for _, v := range d.Vec {
				if v.Kind == ptx.RegOperand && v.Reg == reg {
					return i
				}
			}
		}
	}
	return -1
}

// slice returns the indices of the instructions that the address of
// instruction i is computed from, nearest first.
func (k *kernel) slice(i int) []int {
	var out []int
	seen := map[int]bool{}
	var visit func(i int, ops []ptx.Operand)
	visit = func(i int, ops []ptx.Operand) {
		for _, o := range ops {
			if (o.Kind == ptx.RegOperand || o.Kind == ptx.MemOperand) && o.Reg >= 0 {
				if d := k.def(i, o.Reg); d >= 0 && !seen[d] {
					seen[d] = true
					out = append(out, d)
					visit(d, k.Body[d].Src)
				}
			}
		}
	}
	if a := at(&k.Body[i]); a != nil {
		visit(i, []ptx.Operand{*a})
	}
	return out
}

// param returns the offset in the kernel's first parameter, the Group, that a
// ld.param reads, if that is a constant.
func (k *kernel) param(i int) (int64, bool) {
	a := at(&k.Body[i])
	if a == nil || k.Body[i].Space != ptx.Param {
		return 0, false
	}
	if a.Var != nil {
		return a.Off, a.Var.Offset == 0
	}
	off, ok := k.paramBase(i, a.Reg)
	return off + a.Off, ok
}

func (k *kernel) paramBase(i, reg int) (int64, bool) {
	d := k.def(i, reg)
	if d < 0 {
		return 0, false
	}
	in := &k.Body[d]
	switch {
	case in.Op == ptx.Mov && in.Src[0].Kind == ptx.VarOperand:
		return in.Src[0].Off, in.Src[0].Var.Space == ptx.Param && in.Src[0].Var.Offset == 0
	case in.Op == ptx.Add && in.Src[1].Kind == ptx.ImmOperand:
		off, ok := k.paramBase(d, in.Src[0].Reg)
		return off + int64(in.Src[1].Imm), ok
	}
	return 0, false
}

// Byte offsets in the Group.
func (k *kernel) multicastParam() int64 { return int64(8 * k.ranks) }
func (k *kernel) rankParam() int64      { return int64(8*k.ranks) + 16 }

var (
	registers = regexp.MustCompile(`%(rd|rs|r|p|f)\d+`)
	labels    = regexp.MustCompile(`\$L__BB\d+_\d+`)
	spaces    = regexp.MustCompile(`\s+`)
)

// normal is an instruction's text without what small changes of a program
// would change.
func normal(text string) string {
	text = registers.ReplaceAllString(text, "%$1")
	text = labels.ReplaceAllString(text, "L")
	return spaces.ReplaceAllString(strings.TrimSpace(text), " ")
}
