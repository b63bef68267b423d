package probe

import (
	"fmt"
	"strings"
)

// Count is how many operands each form gets: whole blocks of whole warps, so
// that no kernel has lanes to spare.
const Count = 4096

const threads = 128

// A kernel computes out[i] = form(in[3i], in[3i+1], in[3i+2]) on 64-bit words;
// a narrower result is zero-extended.
const kernelText = `
.visible .entry %s(.param .u64 in, .param .u64 out)
{
	.reg .pred %%p<8>;
	.reg .b16 %%h<8>;
	.reg .b32 %%r<16>;
	.reg .b64 %%rd<16>;
	.reg .f32 %%f<8>;
	.reg .f64 %%d<8>;
	ld.param.u64 %%rd10, [in];
	ld.param.u64 %%rd11, [out];
	mov.u32 %%r8, %%ctaid.x;
	mov.u32 %%r9, %%ntid.x;
	mov.u32 %%r10, %%tid.x;
	mad.lo.u32 %%r8, %%r8, %%r9, %%r10;
	mad.wide.u32 %%rd10, %%r8, 24, %%rd10;
	mad.wide.u32 %%rd11, %%r8, 8, %%rd11;
	ld.global.u64 %%rd1, [%%rd10];
	ld.global.u64 %%rd2, [%%rd10+8];
	ld.global.u64 %%rd3, [%%rd10+16];
	cvt.u32.u64 %%r1, %%rd1;
	cvt.u32.u64 %%r2, %%rd2;
	cvt.u32.u64 %%r3, %%rd3;
	cvt.u16.u64 %%h1, %%rd1;
	cvt.u16.u64 %%h2, %%rd2;
	cvt.u16.u64 %%h3, %%rd3;
	mov.b32 %%f1, %%r1;
	mov.b32 %%f2, %%r2;
	mov.b32 %%f3, %%r3;
	mov.b64 %%d1, %%rd1;
	mov.b64 %%d2, %%rd2;
	mov.b64 %%d3, %%rd3;
	setp.ne.u32 %%p1, %%r1, 0;
	setp.gt.s32 %%p2, %%r2, 0;
	%s;
	%s
	st.global.u64 [%%rd11], %%rd0;
	ret;
}
`

// tails move a form's result to %rd0.
var tails = map[string]string{
	"%rd0": "",
	"%r0":  "cvt.u64.u32 %rd0, %r0;",
	"%f0":  "mov.b32 %r0, %f0; cvt.u64.u32 %rd0, %r0;",
	"%d0":  "mov.b64 %rd0, %d0;",
	"%h0":  "cvt.u64.u16 %rd0, %h0;",
	"%p0":  "selp.u64 %rd0, 1, 0, %p0;",
	// The number, and the predicate in bit 32.
	"%r0|%p0": "selp.u32 %r6, 1, 0, %p0; mov.b64 %rd0, {%r0, %r6};",
}

// Module returns the PTX of forms, one kernel each, and the kernels' names.
func Module(forms []Form) (ptx []byte, names []string) {
	var b strings.Builder
	b.WriteString(".version 8.6\n.target sm_90a\n.address_size 64\n")
	for i, f := range forms {
		names = append(names, fmt.Sprintf("probe%04d", i))
		fmt.Fprintf(&b, kernelText, names[i], f.Text, tails[f.destination()])
	}
	return []byte(b.String()), names
}
