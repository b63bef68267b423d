// Package beside runs a kernel on a GPU beside moegen's own, for tests of
// whether both make progress.
package beside

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/moegen/moegen/runtime/driver"
)

// ptx has the kernel: each block answers every number that the host writes to
// the first word by writing it to a word of its own behind that, until the
// number is 0xffffffff or the deadline has passed. All its other threads wait
// for the first, so that they keep their places.
const ptx = `.version 8.6
.target sm_90
.address_size 64
.visible .entry beside(.param .u64 words, .param .u64 patience)
{
	.reg .pred %p<4>;
	.reg .b32 %r<4>;
	.reg .b64 %rd<7>;
	mov.u32 %r1, %tid.x;
	setp.ne.u32 %p1, %r1, 0;
	@%p1 bra DONE;
	ld.param.u64 %rd1, [words];
	ld.param.u64 %rd4, [patience];
	mov.u64 %rd5, %globaltimer;
	add.u64 %rd5, %rd5, %rd4;
	mov.u32 %r1, %ctaid.x;
	mul.wide.u32 %rd2, %r1, 4;
	add.u64 %rd3, %rd1, %rd2;
	mov.u32 %r2, 0;
AGAIN:
	ld.acquire.sys.global.u32 %r3, [%rd1];
	setp.eq.u32 %p1, %r3, %r2;
	@%p1 bra SAME;
	mov.u32 %r2, %r3;
	st.release.sys.global.u32 [%rd3+4], %r2;
	setp.eq.u32 %p2, %r2, 0xffffffff;
	@%p2 bra DONE;
SAME:
	mov.u64 %rd6, %globaltimer;
	setp.lt.u64 %p3, %rd6, %rd5;
	@%p3 bra AGAIN;
DONE:
	bar.sync 0;
	ret;
}
`

// patience is how long the kernel runs if nobody stops it.
const patience = 20 * time.Second

const stopped = 1<<32 - 1

// Kernel is the kernel on one GPU.
type Kernel struct {
	module          driver.Module
	kernel          driver.Function
	words           driver.HostMemory
	stream          driver.Stream
	blocks, threads int
	shared          uint64
	said            uint32
}

// New gets everything ready for blocks blocks of threads threads with so many
// bytes of shared memory: what takes memory or loads code may wait for the GPU,
// and is not done once others run.
func New(d driver.Device, blocks, threads int, shared uint64) (*Kernel, error) {
	k := &Kernel{blocks: blocks, threads: threads, shared: shared}
	var err error
	if k.module, err = d.LoadModule(driver.Image{Name: "beside", PTX: []byte(ptx)}); err != nil {
		return nil, err
	}
	if k.kernel, err = k.module.Function("beside"); err != nil {
		return nil, err
	}
	if k.words, err = d.AllocHost(uint64(4 * (1 + blocks))); err != nil {
		return nil, err
	}
	clear(k.words.Bytes())
	k.stream, err = d.NewStream()
	return k, err
}

// Launch launches the kernel on a stream of its own.
func (k *Kernel) Launch() error {
	params := binary.LittleEndian.AppendUint64(nil, uint64(k.words.Ptr()))
	params = binary.LittleEndian.AppendUint64(params, uint64(patience.Nanoseconds()))
	return k.stream.Launch(k.kernel, driver.LaunchConfig{Grid: driver.Dim3{X: k.blocks}, Block: driver.Dim3{X: k.threads}, SharedBytes: k.shared}, params)
}

func (k *Kernel) word(i int) *uint32 { return (*uint32)(unsafe.Pointer(&k.words.Bytes()[4*i])) }

// Answers says a number to all blocks and waits for their answers. An error
// says that a block did not answer in time: it does not run.
func (k *Kernel) Answers(within time.Duration) error {
	k.said++
	atomic.StoreUint32(k.word(0), k.said)
	deadline := time.Now().Add(within)
	for i := range k.blocks {
		for atomic.LoadUint32(k.word(1+i)) != k.said {
			if time.Now().After(deadline) {
				return fmt.Errorf("block %d of %d of the kernel beside does not answer within %v", i, k.blocks, within)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	return nil
}

// Stop ends the kernel and gives back what it took.
func (k *Kernel) Stop() error {
	atomic.StoreUint32(k.word(0), stopped)
	return errors.Join(k.stream.Synchronize(), k.stream.Close(), k.module.Unload(), k.words.Free())
}
