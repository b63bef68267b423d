// ---- Transport p2p: unicast addresses of every peer ------------------------

struct P2P {
  // Peers and this rank use the same kind of address: nothing to order.
  static __device__ __forceinline__ void fence() {}

  // Stores v at offset of every rank's symmetric memory.
  template <typename Pack>
  static __device__ __forceinline__ void store_all(const Group& g, size_t offset, Pack v) {
#pragma unroll 8
    for (int r = 0; r < kRanks; ++r) *reinterpret_cast<Pack*>(g.symm[r] + offset) = v;
  }

  // Loads the wire pack at offset of every rank and adds them up in fp32, in
  // rank order: the same bits whoever asks. The loads of up to eight ranks are
  // in flight together. They are plain loads; the compiler must not be given a
  // reason to use the non-coherent path (no __restrict__).
  static __device__ __forceinline__ void load_sum(const Group& g, size_t offset, float (&sum)[kWireElements]) {
    constexpr int kBatch = kRanks < 8 ? kRanks : 8;
#pragma unroll
    for (int e = 0; e < kWireElements; ++e) sum[e] = 0.0f;
    for (int first = 0; first < kRanks; first += kBatch) {
      uint4 v[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (first + i < kRanks) v[i] = *reinterpret_cast<const uint4*>(g.symm[first + i] + offset);
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (first + i < kRanks) add_wire(sum, v[i]);
      }
    }
  }
};
