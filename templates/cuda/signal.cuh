// ---- Signals, bounded waits and failures -----------------------------------

enum Phase : uint32_t { kPhaseCounts = 1, kPhaseDispatch = 2, kPhaseCombine = 3 };
enum Code : uint32_t { kTimeout = 1, kTooManyTokens = 2, kGridMismatch = 3 };

// How many polls pass between looks at the clock and at the failure word.
constexpr uint32_t kPollsPerCheck = 64;

// A wait that lasts longer than this is counted as a slow one.
constexpr uint64_t kSlowNs = 100000;

__device__ __forceinline__ uint64_t* failure_word(const Group& g, int rank) {
  return reinterpret_cast<uint64_t*>(g.symm[rank] + kFailure);
}

// Once a rank has failed, its kernels neither send nor signal, so that no peer
// can take what it left behind for a result. The failure may be a peer's: the
// host is told here.
__device__ __forceinline__ bool is_failure(const Group& g, uint64_t word) {
  if (word == 0) return false;
  store_relaxed(g.control->status, word);
  return true;
}

__device__ __forceinline__ bool has_failed(const Group& g) {
  return is_failure(g, load_relaxed(failure_word(g, g.rank)));
}

// A failure as one word: code << 56 | phase << 48 | rank << 40 | peer << 32 | epoch.
__device__ __forceinline__ uint64_t failure(const Group& g, Code code, Phase phase, int peer, uint32_t epoch) {
  return uint64_t(code) << 56 | uint64_t(phase) << 48 | uint64_t(g.rank) << 40 | uint64_t(peer) << 32 | epoch;
}

// Records a failure here, at every peer and for the host. The first one stays.
__device__ __forceinline__ void fail(const Group& g, Code code, Phase phase, int peer, uint32_t epoch) {
  const uint64_t word = failure(g, code, phase, peer, epoch);
  unsigned long long* own = reinterpret_cast<unsigned long long*>(failure_word(g, g.rank));
  const uint64_t first = atomicCAS_system(own, 0ull, static_cast<unsigned long long>(word));
  if (first == 0) {
#pragma unroll 1
    for (int r = 0; r < kRanks; ++r) {
      if (r != g.rank) store_relaxed(failure_word(g, r), word);
    }
  }
  store_relaxed(g.control->status, first == 0 ? word : first);
}

// Counts a slow wait, once for all threads that wait at the same time.
__device__ __forceinline__ void count_slow(Control* control, uint64_t now) {
  const uint64_t last = atomicExch(reinterpret_cast<unsigned long long*>(&control->slow_at), now);
  if (int64_t(now - last) > int64_t(kSlowNs)) atomicAdd(&control->slow_waits, 1u);
}

// Decides whether a wait that has not been satisfied should end: because the
// group has failed already, or because this wait is past its deadline.
// *deadline is 0 at the first call, and odd until the wait is a slow one.
__device__ __forceinline__ bool give_up(const Group& g, Phase phase, int peer, uint32_t epoch, uint64_t* deadline) {
  if (has_failed(g)) return true;
  const uint64_t now = global_timer();
  if (*deadline == 0) *deadline = (now + g.control->timeout_ns) | 1;
  if (*deadline & 1 && int64_t(now + g.control->timeout_ns - *deadline) > int64_t(kSlowNs)) {
    *deadline ^= 1;
    count_slow(g.control, now);
  }
  if (now < *deadline) return false;
  fail(g, kTimeout, phase, peer, epoch);
  return true;
}

// Waits until peer's flag has reached epoch. What peer wrote before it raised
// the flag is visible to this thread afterwards. False: the group has failed.
__device__ __forceinline__ bool wait_flag(const Group& g, Phase phase, const uint32_t* flag, int peer, uint32_t epoch) {
  uint64_t deadline = 0;
#pragma unroll 1
  for (uint32_t polls = 1; int32_t(load_acquire(flag) - epoch) < 0; ++polls) {
    if (polls % kPollsPerCheck == 0 && give_up(g, phase, peer, epoch, &deadline)) return false;
  }
  return true;
}

// What a thread has to know before its block's turn.
struct Turn {
  bool failed;     // the group has
  uint32_t epoch;  // that this thread and its peer are about to reach
};

// Flags are per block, and a pair's epoch is kept in a word that only one
// thread uses: thread r of a block speaks with rank r.
__device__ __forceinline__ uint32_t* epoch_word(uint32_t* epochs) {
  return epochs + size_t(blockIdx.x) * kRanks + threadIdx.x;
}

__device__ __forceinline__ uint32_t next_epoch(uint32_t* epochs) {
  return threadIdx.x < kRanks ? *epoch_word(epochs) + 1 : 0;
}

__device__ __forceinline__ Turn begin_turn(const Group& g, uint32_t* epochs) {
  Turn turn;
  turn.epoch = next_epoch(epochs);
  turn.failed = has_failed(g);
  return turn;
}

// Tells every rank that this block has reached the next epoch and waits until
// the same block of every rank has. A block waits only for those whose data it
// shares, and no block waits for a whole grid.
//
// Called by all threads, after __syncthreads() where the block's threads wrote
// data that the flag announces. False: the group has failed (not uniform over
// the block).
template <typename Transport>
__device__ __forceinline__ bool exchange_flags(const Group& g, Phase phase, size_t flags, uint32_t* epochs,
                                               const Turn& turn) {
  const int peer = threadIdx.x;
  if (peer >= kRanks) return true;
  if (turn.failed) return false;

  // Orders what this rank did through multicast addresses with what others do
  // through unicast ones after they have seen the flag, and the reverse.
  Transport::fence();
  const size_t block = size_t(blockIdx.x) * kRanks;
  char* const theirs = g.symm[peer] + flags + (block + g.rank) * sizeof(uint32_t);
  char* const ours = g.symm[g.rank] + flags + (block + peer) * sizeof(uint32_t);
  store_release(reinterpret_cast<uint32_t*>(theirs), turn.epoch);
  if (!wait_flag(g, phase, reinterpret_cast<uint32_t*>(ours), peer, turn.epoch)) return false;
  *epoch_word(epochs) = turn.epoch;
  return true;
}
