package exchange

import (
	"fmt"
	"testing"
	"time"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/emu"
	"github.com/moegen/moegen/tests/internal/beside"
)

// TestBeside: on GPUs with room for 16 blocks, another kernel of 8 runs while a
// step with sm_limit 8 waits for a rank, and steps end while the other kernel
// goes on. A step with sm_limit 16 leaves no room while it waits.
func TestBeside(t *testing.T) {
	for _, transport := range []moert.Transport{moert.NVLS, moert.P2P} {
		for _, limit := range []int{8, 16} {
			t.Run(fmt.Sprintf("%s %d", transport, limit), func(t *testing.T) {
				p := program(t, fmt.Sprintf("hidden_dim: 1024\ntopk: 2\ndtype: bf16\nep_size: 2\nmax_tokens: 16\nsm_limit: %d\n", limit))
				// As many blocks as are allowed, for any number of tokens.
				p.Plan = []moert.PlanRow{{Tokens: p.MaxTokens, Blocks: p.MaxBlocks, Threads: p.Threads}}
				r := newRig(t, machine(t, emu.Config{Devices: 2, SMs: 16, ResidentBlocksPerSM: 1}), p, moert.WithTransport(transport))
				layer := func(rank int) {
					t.Helper()
					d, s := r.d[rank], r.streams[rank]
					if err := d.NextStep(moert.HostTokens(9)); err != nil {
						t.Fatal(err)
					}
					if _, err := d.Dispatch(s, r.in[rank].rows()); err != nil {
						t.Fatal(err)
					}
					if _, err := d.Combine(s, moert.CombineArgs{Partial: d.PartialBuffer()}); err != nil {
						t.Fatal(err)
					}
				}
				k, err := beside.New(r.drv.Devices()[0], 8, 32, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer func() {
					if err := k.Stop(); err != nil {
						t.Error(err)
					}
				}()
				layer(0) // waits for rank 1, all its blocks
				if err := k.Launch(); err != nil {
					t.Fatal(err)
				}
				answered := k.Answers(map[int]time.Duration{8: 10 * time.Second, 16: 100 * time.Millisecond}[limit])
				if fits := limit == 8; fits != (answered == nil) {
					t.Errorf("beside %d waiting blocks: %v", limit, answered)
				}
				layer(1)
				for range 3 {
					layer(0)
					layer(1)
				}
				r.synchronize(t)
				if err := k.Answers(10 * time.Second); err != nil {
					t.Errorf("when the steps have ended: %v", err)
				}
			})
		}
	}
}
