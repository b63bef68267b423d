package litmus

import (
	"testing"

	"github.com/moegen/moegen/runtime/emu"
)

// The pieces of the alias tests. Data goes one way, the flag by unicast.
const (
	multimemStore = "multimem.st.weak.global.u32 [%rd3], 7;\n"
	unicastStore  = "st.global.u32 [%rd1], 7;\n"
	aliasFence    = "fence.proxy.alias;\n"
	raise         = "st.release.sys.global.u32 [%rd2+256], 1;\n"
	wait          = "$wait:\nld.acquire.sys.global.u32 %r2, [%rd2+256];\nsetp.ne.u32 %p2, %r2, 1;\n@%p2 bra $wait;\n"
	unicastLoad   = "ld.global.u32 %r3, [%rd2];\n"
	peerLoad      = "ld.global.u32 %r3, [%rd1];\n"
	reduce        = "multimem.ld_reduce.weak.global.add.u32 %r3, [%rd3];\n"
)

// TestAlias: an access through a multicast address and one through a unicast
// address of the same memory need a fence.proxy.alias on the path between them.
// Explore's loads do not return stale data for the lack of one, so the report
// is all that there is to see.
func TestAlias(t *testing.T) {
	both := func(off string) string { return "st.global.u32 [%rd2" + off + "], 7;\n" }
	runPairs(t, []pair{
		{name: "store without fence", writer: multimemStore + raise, reader: wait + unicastLoad, want: missingAlias, at: "ld.global"},
		{name: "fence before the release", writer: multimemStore + aliasFence + raise, reader: wait + unicastLoad},
		{name: "fence after the release", writer: multimemStore + raise + aliasFence, reader: wait + unicastLoad, want: missingAlias, at: "multimem.st"},
		{name: "fence after the acquire", writer: multimemStore + raise, reader: wait + aliasFence + unicastLoad},
		{name: "fence before the acquire", writer: multimemStore + raise, reader: aliasFence + wait + unicastLoad, want: missingAlias, at: "ld.global"},
		{name: "fence before the store", writer: aliasFence + multimemStore + raise, reader: wait + unicastLoad, want: missingAlias, at: "multimem.st"},
		{name: "another fence", writer: multimemStore + "fence.sc.sys;\n" + raise, reader: wait + unicastLoad, want: missingAlias, at: "ld.global"},
		{name: "the writer's own copy", writer: multimemStore + peerLoad, reader: "", want: missingAlias, at: "multimem.st"},
		{name: "the writer's own copy, fenced", writer: multimemStore + aliasFence + peerLoad, reader: ""},
		{name: "reduce without fence", writer: unicastStore + raise, reader: both("") + wait + reduce, want: missingAlias, at: "multimem.ld_reduce"},
		{name: "reduce, both sides fenced", writer: unicastStore + aliasFence + raise, reader: both("") + aliasFence + wait + reduce},
		{name: "reduce, fence after the acquire", writer: unicastStore + raise, reader: both("") + wait + aliasFence + reduce},
		{name: "reduce, the reader's own not fenced", writer: unicastStore + aliasFence + raise, reader: both("") + wait + reduce, want: missingAlias, at: "multimem.ld_reduce"},
		{name: "no order but the fence", writer: multimemStore + aliasFence + "st.relaxed.sys.global.u32 [%rd2+256], 1;\n", reader: wait + unicastLoad, want: dataRace, at: "multimem.st"},
		{name: "without rules", writer: multimemStore + raise, reader: wait + unicastLoad, alias: emu.AliasOff},
		{name: "multicast flag", writer: "st.global.u32 [%rd2], 7;\n" + "multimem.st.release.sys.global.u32 [%rd3+256], 1;\n", reader: wait + unicastLoad, want: mixedAlias, at: "256"},
		{name: "multicast flag in practice", writer: "st.global.u32 [%rd2], 7;\n" + "multimem.st.release.sys.global.u32 [%rd3+256], 1;\n", reader: wait + unicastLoad, alias: emu.AliasPractical},
		{name: "multicast flag in practice, data not fenced", writer: multimemStore + "multimem.st.release.sys.global.u32 [%rd3+256], 1;\n", reader: wait + unicastLoad, alias: emu.AliasPractical, want: missingAlias, at: "ld.global"},
		{name: "unicast", writer: "st.global.u32 [%rd2], 7;\n" + raise, reader: wait + unicastLoad},
	})
}
