package litmus

import "testing"

// TestUpstream has bugs of the kind that were reported of other projects'
// kernels, and what they should have been: each is told from the other.
func TestUpstream(t *testing.T) {
	const (
		data = "st.global.u32 [%rd2], 7;\n"
		load = "ld.global.u32 %r3, [%rd2];\n"
	)
	// A wait that takes its flag back with a compare-and-swap (FlashInfer).
	take := func(order string) string {
		return "$wait:\natom." + order + ".global.cas.b32 %r2, [%rd2+256], 1, 0;\nsetp.ne.u32 %p2, %r2, 1;\n@%p2 bra $wait;\n"
	}
	// A bulk copy from shared memory to the peer, and a flag (CUTLASS).
	bulk := func(done, flag string) string {
		return "mov.u32 %r4, buffer;\nst.shared.u32 [%r4], 1;\nst.shared.u32 [%r4+4], 2;\nst.shared.u32 [%r4+8], 3;\nst.shared.u32 [%r4+12], 4;\n" +
			"fence.proxy.async.shared::cta;\n" +
			"cp.async.bulk.global.shared::cta.bulk_group [%rd2], [%r4], 16;\ncp.async.bulk.commit_group;\n" +
			done + flag + "cp.async.bulk.wait_group 0;\n"
	}
	const (
		whole  = "cp.async.bulk.wait_group 0;\n"
		source = "cp.async.bulk.wait_group.read 0;\n"
		add    = "red.release.sys.global.add.u32 [%rd2+256], 1;\n"
		addGPU = "red.release.gpu.global.add.u32 [%rd2+256], 1;\n"
	)
	runPairs(t, []pair{
		{name: "wait by relaxed.gpu cas", writer: data + add, reader: take("relaxed.gpu") + load, want: dataRace, at: "ld.global"},
		{name: "wait by acquire.gpu cas", writer: data + add, reader: take("acquire.gpu") + load, want: narrow, at: "atom.acquire.gpu"},
		{name: "wait by relaxed.sys cas", writer: data + add, reader: take("relaxed.sys") + load, want: dataRace, at: "ld.global"},
		{name: "wait by acquire.sys cas", writer: data + add, reader: take("acquire.sys") + load},
		{name: "release.gpu for a peer", writer: data + addGPU, reader: wait + load, want: narrow, at: "st.global"},
		{name: "flag when only the source may be reused", writer: bulk(source, add), reader: wait + load, want: dataRace, at: "ld.global"},
		{name: "release.gpu after the source may be reused", writer: bulk(source, addGPU), reader: wait + load, want: narrow, at: "red.release.gpu"},
		{name: "release.gpu after the copy", writer: bulk(whole, addGPU), reader: wait + load, want: narrow, at: "red.release.gpu"},
		{name: "release.sys after the copy", writer: bulk(whole, add), reader: wait + load},
	})
}
