package emu

import (
	"math/bits"

	"github.com/moegen/moegen/runtime/emu/ptx"
)

// slowInt is the rest, generic over the width.
func slowInt(in *ptx.Instr) aluFn {
	t := in.Type
	size := t.Size()
	nbits := uint64(8 * size)
	m := widthMask(size)
	norm := normalize(t)
	signed := isSigned(t)
	lt := less(t)
	switch in.Op {
	case ptx.Add:
		if in.Sat {
			return bin(func(a, b uint64) uint64 { return sat32(int64(int32(a)) + int64(int32(b))) })
		}
		return bin(func(a, b uint64) uint64 { return (a + b) & m })
	case ptx.Sub:
		if in.Sat {
			return bin(func(a, b uint64) uint64 { return sat32(int64(int32(a)) - int64(int32(b))) })
		}
		return bin(func(a, b uint64) uint64 { return (a - b) & m })
	case ptx.Mul:
		f := mulFn(in)
		return bin(func(a, b uint64) uint64 { return f(a, b) })
	case ptx.Mad:
		f := mulFn(in)
		switch {
		case in.Mul == ptx.Wide:
			m := widthMask(2 * size)
			return tern(func(a, b, c uint64) uint64 { return (f(a, b) + c) & m })
		case in.Sat:
			return tern(func(a, b, c uint64) uint64 { return sat32(int64(int32(f(a, b))) + int64(int32(c))) })
		}
		return tern(func(a, b, c uint64) uint64 { return (f(a, b) + c) & m })
	case ptx.Div:
		// Quotient and remainder of a division by zero are all ones on the
		// hardware; PTX leaves them open.
		if signed {
			return bin(func(a, b uint64) uint64 {
				if b&m == 0 {
					return m
				}
				x, y := int64(norm(a)), int64(norm(b))
				if y == -1 {
					return uint64(-x) & m
				}
				return uint64(x/y) & m
			})
		}
		return bin(func(a, b uint64) uint64 {
			if b&m == 0 {
				return m
			}
			return (a & m) / (b & m)
		})
	case ptx.Rem:
		if signed {
			return bin(func(a, b uint64) uint64 {
				if b&m == 0 {
					return m
				}
				x, y := int64(norm(a)), int64(norm(b))
				if y == -1 {
					return 0
				}
				return uint64(x%y) & m
			})
		}
		return bin(func(a, b uint64) uint64 {
			if b&m == 0 {
				return m
			}
			return (a & m) % (b & m)
		})
	case ptx.Abs:
		return un(func(a uint64) uint64 {
			if x := int64(norm(a)); x < 0 {
				return uint64(-x) & m
			}
			return a & m
		})
	case ptx.Neg:
		return un(func(a uint64) uint64 { return -a & m })
	case ptx.Sad:
		return tern(func(a, b, c uint64) uint64 {
			x, y := norm(a), norm(b)
			if lt(x, y) {
				x, y = y, x
			}
			return (c + x - y) & m
		})
	case ptx.Min:
		if in.Relu {
			return bin(func(a, b uint64) uint64 { return uint64(uint32(max(min(int32(a), int32(b)), 0))) })
		}
		return bin(func(a, b uint64) uint64 {
			if lt(norm(b), norm(a)) {
				a = b
			}
			return a & m
		})
	case ptx.Max:
		if in.Relu {
			return bin(func(a, b uint64) uint64 { return uint64(uint32(max(int32(a), int32(b), 0))) })
		}
		return bin(func(a, b uint64) uint64 {
			if lt(norm(a), norm(b)) {
				a = b
			}
			return a & m
		})
	case ptx.And:
		return bin(func(a, b uint64) uint64 { return a & b & m })
	case ptx.Or:
		return bin(func(a, b uint64) uint64 { return (a | b) & m })
	case ptx.Xor:
		return bin(func(a, b uint64) uint64 { return (a ^ b) & m })
	case ptx.Not:
		return un(func(a uint64) uint64 { return ^a & m })
	case ptx.Cnot:
		return un(func(a uint64) uint64 {
			if a&m == 0 {
				return 1
			}
			return 0
		})
	case ptx.Shl:
		return bin(func(a, b uint64) uint64 { return a << uint32(b) & m })
	case ptx.Shr:
		if signed {
			return bin(func(a, b uint64) uint64 { return uint64(int64(norm(a))>>uint32(b)) & m })
		}
		return bin(func(a, b uint64) uint64 { return a & m >> uint32(b) })
	case ptx.Popc:
		return un(func(a uint64) uint64 { return uint64(bits.OnesCount64(a & m)) })
	case ptx.Clz:
		return un(func(a uint64) uint64 { return uint64(bits.LeadingZeros64(a&m)) - (64 - nbits) })
	case ptx.Brev:
		return un(func(a uint64) uint64 { return bits.Reverse64(a&m) >> (64 - nbits) })
	case ptx.Bfind:
		return un(func(a uint64) uint64 {
			x := norm(a)
			if signed && int64(x) < 0 {
				x = ^x
			}
			n := bits.Len64(x&m) - 1
			if n < 0 {
				return 0xffffffff
			}
			if in.ShiftAmt {
				n = int(nbits) - 1 - n
			}
			return uint64(n)
		})
	case ptx.Bfe:
		field := fieldMask(size)
		return tern(func(a, b, c uint64) uint64 { return bfe(a, b&field, c&field, nbits, signed) & m })
	case ptx.Prmt:
		mode := in.Prmt
		return tern(func(a, b, c uint64) uint64 { return prmt(mode, uint32(a), uint32(b), uint32(c)) })
	case ptx.Shf:
		return tern(shfFn(in))
	}
	return nil
}

func sat32(x int64) uint64 { return uint64(uint32(max(min(x, 1<<31-1), -1<<31))) }

// mulFn multiplies with the part that in keeps.
func mulFn(in *ptx.Instr) func(a, b uint64) uint64 {
	size := in.Type.Size()
	norm := normalize(in.Type)
	m := widthMask(size)
	switch {
	case in.Mul == ptx.Lo:
		return func(a, b uint64) uint64 { return a * b & m }
	case in.Mul == ptx.Wide:
		m := widthMask(2 * size)
		return func(a, b uint64) uint64 { return norm(a) * norm(b) & m }
	case size < 8:
		return func(a, b uint64) uint64 { return norm(a) * norm(b) >> (8 * size) & m }
	case isSigned(in.Type):
		return func(a, b uint64) uint64 {
			hi, _ := bits.Mul64(a, b)
			if int64(a) < 0 {
				hi -= b
			}
			if int64(b) < 0 {
				hi -= a
			}
			return hi
		}
	}
	return func(a, b uint64) uint64 {
		hi, _ := bits.Mul64(a, b)
		return hi
	}
}

// fieldMask is what bfe and bfi look at of a position and a length: 8 bits, as
// PTX says, but all 32 where the type has 64 bits and several instructions do it.
func fieldMask(size int) uint64 {
	if size == 8 {
		return 0xffffffff
	}
	return 0xff
}

func bfe(a, pos, n, width uint64, signed bool) uint64 {
	if n == 0 {
		return 0
	}
	top := min(pos+n-1, width-1)
	var sign uint64
	if signed {
		sign = a >> top & 1
	}
	var d uint64
	for i := range width {
		bit := sign
		if i < n && pos+i < width {
			bit = a >> (pos + i) & 1
		}
		d |= bit << i
	}
	return d
}

func bfi(a, b, pos, n, width uint64) uint64 {
	for i := uint64(0); i < n && pos+i < width; i++ {
		b = b&^(1<<(pos+i)) | a>>i&1<<(pos+i)
	}
	return b
}

func prmt(mode ptx.PrmtMode, a, b, c uint32) uint64 {
	pool := uint64(b)<<32 | uint64(a)
	pick := func(i uint32) uint64 { return pool >> (8 * (i & 7)) & 0xff }
	var d uint64
	s := c & 3
	for i := range uint32(4) {
		var v uint64
		switch mode {
		case ptx.PrmtBytes:
			sel := c >> (4 * i)
			v = pick(sel & 7)
			if sel&8 != 0 {
				v = uint64(uint8(int8(v) >> 7))
			}
		case ptx.PrmtF4E:
			v = pick(s + i)
		case ptx.PrmtB4E:
			v = pick(s - i)
		case ptx.PrmtRC8:
			v = pick(s)
		case ptx.PrmtECL:
			v = pick(max(s, i))
		case ptx.PrmtECR:
			v = pick(min(s, i))
		case ptx.PrmtRC16:
			v = pick(s&1*2 + i&1)
		}
		d |= v << (8 * i)
	}
	return d
}

func shfFn(in *ptx.Instr) func(a, b, c uint64) uint64 {
	left, wrap := in.Left, in.Wrap
	return func(a, b, c uint64) uint64 {
		n := c & 0xffffffff
		if wrap {
			n &= 31
		} else {
			n = min(n, 32)
		}
		both := b<<32 | a&0xffffffff
		if left {
			return both << n >> 32
		}
		return both >> n & 0xffffffff
	}
}
