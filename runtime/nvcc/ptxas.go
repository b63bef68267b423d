package nvcc

import (
	"regexp"
	"strconv"
	"strings"
)

// FuncInfo is what the assembler says about a function: the numbers that decide how
// many blocks fit on a multiprocessor, and whether registers were spilled.
type FuncInfo struct {
	Name         string // mangled, unless the function is extern "C"
	Entry        bool   // a kernel; for other functions the assembler names no registers
	Registers    int    // per thread
	SpillLoads   int    // bytes
	SpillStores  int    // bytes
	StackBytes   int    // per thread
	SharedBytes  int    // static shared memory per block
	BarrierCount int    // named barriers
}

var (
	ptxasEntry      = regexp.MustCompile(`^ptxas info\s*: Compiling entry function '([^']+)' for`)
	ptxasProperties = regexp.MustCompile(`^ptxas info\s*: Function properties for (\S+)`)
	ptxasFrame      = regexp.MustCompile(`^\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads`)
	ptxasUsed       = regexp.MustCompile(`^ptxas info\s*: Used (\d+) registers`)
	ptxasShared     = regexp.MustCompile(`(\d+)(?:\+(\d+))? bytes smem`)
	ptxasBarriers   = regexp.MustCompile(`used (\d+) barriers`)
)

// Funcs returns what the assembler said about each function, in its order. It is
// empty for PTX, which has not been assembled.
func (i Image) Funcs() []FuncInfo { return parseFuncs(i.Log) }

// parseFuncs reads the lines that `ptxas -v` writes. "Used" belongs to the latest
// entry function, the frame to the latest function whose properties were announced.
func parseFuncs(log string) []FuncInfo {
	var funcs []FuncInfo
	index := make(map[string]int)
	get := func(name string) int {
		i, ok := index[name]
		if !ok {
			i = len(funcs)
			index[name] = i
			funcs = append(funcs, FuncInfo{Name: name})
		}
		return i
	}
	entry, framed := -1, -1
	for line := range strings.Lines(log) {
		line = strings.TrimRight(line, "\r\n")
		if m := ptxasEntry.FindStringSubmatch(line); m != nil {
			entry = get(m[1])
			funcs[entry].Entry = true
		} else if m := ptxasProperties.FindStringSubmatch(line); m != nil {
			framed = get(m[1])
		} else if m := ptxasFrame.FindStringSubmatch(line); m != nil && framed >= 0 {
			f := &funcs[framed]
			f.StackBytes, f.SpillStores, f.SpillLoads = number(m[1]), number(m[2]), number(m[3])
		} else if m := ptxasUsed.FindStringSubmatch(line); m != nil && entry >= 0 {
			f := &funcs[entry]
			f.Registers = number(m[1])
			if m := ptxasShared.FindStringSubmatch(line); m != nil {
				f.SharedBytes = number(m[1]) + number(m[2])
			}
			if m := ptxasBarriers.FindStringSubmatch(line); m != nil {
				f.BarrierCount = number(m[1])
			}
		}
	}
	return funcs
}

// number is for text that a pattern has found to be digits, or empty.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
