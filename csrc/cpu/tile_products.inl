// The products of Winograd's algorithm, in floats and in integers. Included by kernels.inl.

namespace fastsr {
namespace {

static_assert(!kInterleave || Vec::kSize == kTilesInGroup, "RunningProduct computes one vector of tiles");

// Weights are asked for so many words ahead: a core's own cache does not keep them from group to group beside all else.
// What lies behind the last ones is asked for too, which does no harm.
constexpr int kWeightsAhead = 1024;

// The products of one block with one group: sums[term][m] = sum over c of u[term][c][m] * v[term][c].
template <class A>
struct Product {
  const typename A::T* v;
  const typename A::T* u;
  typename A::T* sums;
  std::ptrdiff_t input_panel, sum_panel;
  int inputs;
};

// M output channels x N vectors of tiles of one term.
template <class A, int M, int N>
FASTSR_INLINE void multiply_term(const typename A::T* v, const typename A::T* u, typename A::T* sums, int inputs) {
  using V = typename A::V;
  V acc[M][N];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) acc[m][n] = A::zero();
  }
  for (int c = 0; c < inputs; ++c, v += kTilesInGroup, u += M) {
    __builtin_prefetch(u + kWeightsAhead, 0);
    V in[N];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) in[n] = load(v + n * V::kSize);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const V weight = A::all(u[m]);
#pragma GCC unroll 16
      for (int n = 0; n < N; ++n) acc[m][n] = A::multiply_add(weight, in[n], acc[m][n]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n) store(sums + m * kTilesInGroup + n * V::kSize, acc[m][n]);
  }
}

template <class A, int M>
void multiply(const Product<A>& p) {
  constexpr int kVectors = kTilesInGroup / A::V::kSize, kAtOnce = kVectors < kTileVectors ? kVectors : kTileVectors;
  const typename A::T* u = p.u;
  for (int term = 0; term < kTileTerms; ++term, u += p.inputs * M) {
    for (int n = 0; n < kTilesInGroup; n += kAtOnce * A::V::kSize) {
      multiply_term<A, M, kAtOnce>(p.v + term * p.input_panel + n, u, p.sums + term * p.sum_panel + n, p.inputs);
    }
  }
}

// The same, a few input channels at a time: the sums of the term at hand stay in registers meanwhile. For levels whose
// vector holds a group.
template <class A, int M>
class RunningProduct {
 public:
  FASTSR_INLINE explicit RunningProduct(const Product<A>& p) : p_(p), left_(p.inputs), terms_(kTileTerms) { clear(); }

  FASTSR_INLINE void run(int count) {
    if (count > left_) count = left_;
    left_ -= count;
    for (; count > 0; --count, p_.v += kTilesInGroup, p_.u += M) {
      const typename A::V in = load(p_.v);
      __builtin_prefetch(p_.u + kWeightsAhead, 0);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) acc_[m] = A::multiply_add_all(p_.u + m, in, acc_[m]);
    }
    if (left_ == 0 && terms_ > 0) next();
  }

  FASTSR_INLINE void finish() {
    while (terms_ > 0) run(left_);
  }

 private:
  FASTSR_INLINE void clear() {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) acc_[m] = A::zero();
  }

  FASTSR_INLINE void next() {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) store(p_.sums + m * kTilesInGroup, acc_[m]);
    clear();
    p_.v += p_.input_panel - p_.inputs * kTilesInGroup;
    p_.sums += p_.sum_panel;
    left_ = --terms_ > 0 ? p_.inputs : 0;
  }

  typename A::V acc_[M];
  Product<A> p_;
  int left_;   // channels of the term at hand
  int terms_;  // that are not complete
};

}  // namespace
}  // namespace fastsr
