// What winograd.inl computes with: the transforms of F(4x4, 3x3), in floats and in integers. Included by kernels.inl.

namespace fastsr {
namespace {

// ---- transforms ----

// What a transform does between its parts: nothing, or some products (multiply_with).
struct DoNothing {
  FASTSR_INLINE void operator()() const {}
};

// What the transforms multiply by powers of two they add up instead: that is as exact, and leaves the multipliers to
// the products.
FASTSR_INLINE Vec twice(Vec x) { return add(x, x); }
FASTSR_INLINE Vec quadruple(Vec x) { return twice(twice(x)); }

// Terms 1 and 2 of B^T d, or 3 and 4, or 0 and 5: those that share what they add up.
template <int pair>
FASTSR_INLINE void input_pair(const Vec* d, Vec& x, Vec& y) {
  if constexpr (pair == 0) {
    const Vec a = sub(d[4], quadruple(d[2])), b = sub(d[3], quadruple(d[1]));
    x = add(a, b);
    y = sub(a, b);
  } else if constexpr (pair == 1) {
    const Vec c = sub(d[4], d[2]), e = twice(sub(d[3], d[1]));
    x = add(c, e);
    y = sub(c, e);
  } else {
    x = add(quadruple(sub(d[0], d[2])), sub(d[4], d[2]));
    y = add(quadruple(sub(d[1], d[3])), sub(d[5], d[3]));
  }
}

// The same in integers, in 16 bits: intermediate results may wrap around, no term does (quantizer.hpp).
template <int pair>
FASTSR_INLINE void input_pair(const Cells* d, Cells& x, Cells& y) {
  if constexpr (pair == 0) {
    const Cells a = sub16(d[4], quadruple16(d[2])), b = sub16(d[3], quadruple16(d[1]));
    x = add16(a, b);
    y = sub16(a, b);
  } else if constexpr (pair == 1) {
    const Cells c = sub16(d[4], d[2]), half = sub16(d[3], d[1]), e = add16(half, half);
    x = add16(c, e);
    y = sub16(c, e);
  } else {
    x = add16(quadruple16(sub16(d[0], d[2])), sub16(d[4], d[2]));
    y = sub16(sub16(d[5], d[3]), quadruple16(sub16(d[3], d[1])));
  }
}

constexpr int kPairs = 3;
constexpr int kPairTerms[kPairs][2] = {{1, 2}, {3, 4}, {0, 5}};

// B^T d
template <class V>
FASTSR_INLINE void transform_input(const V* d, V* v) {
  input_pair<0>(d, v[1], v[2]);
  input_pair<1>(d, v[3], v[4]);
  input_pair<2>(d, v[0], v[5]);
}

// Rows 0 and 2 of A^T m, or 1 and 3. Doubling is exact, so it may be added.
template <int half>
FASTSR_INLINE void output_half(const Vec* m, Vec& x, Vec& y) {
  if constexpr (half == 0) {
    const Vec a = add(m[1], m[2]), c = add(m[3], m[4]);
    x = add(add(m[0], a), c);
    y = add(quadruple(c), a);
  } else {
    const Vec b = sub(m[1], m[2]), d = sub(m[3], m[4]), e = twice(d);
    x = add(e, b);
    y = add(add(quadruple(e), b), m[5]);
  }
}

// The same where m is what the terms' scales of pack_winograd.cpp made of it.
template <int half>
FASTSR_INLINE void output_half_int(const Vec* m, Vec& x, Vec& y) {
  if constexpr (half == 0) {
    const Vec a = add(m[1], m[2]), c = add(m[3], m[4]);
    x = fma(broadcast(0.5f), c, add(m[0], a));
    y = add(twice(c), a);
  } else {
    const Vec b = sub(m[1], m[2]), d = sub(m[3], m[4]);
    x = add(b, d);
    y = add(quadruple(add(d, m[5])), b);
  }
}

// ---- floats and integers ----

// What the algorithm does with one kind of number. V: a vector of them, T: one of them in memory.
struct InFloats {
  using V = Vec;
  using T = float;
  static constexpr bool kInterleaves = kInterleave;
  static V zero() { return broadcast(0.0f); }
  static V all(T x) { return broadcast(x); }
  static V multiply_add(V a, V b, V sum) { return fma(a, b, sum); }
  static V multiply_add_all(const T* a, V b, V sum) { return fma(broadcast(*a), b, sum); }
  static Vec floats(V sum) { return sum; }
  template <int half>
  FASTSR_INLINE static void output(const Vec* m, Vec& x, Vec& y) {
    output_half<half>(m, x, y);
  }
  template <class Packed>
  static Vec finish(const Packed& conv, int k, Vec y) {
    return add(y, broadcast(conv.bias.data()[k]));
  }
  static Vec sigmoid(Vec y) { return sigmoid_vec(y); }
};

struct InIntegers {
  using V = Cells;
  using T = Cell;
  static constexpr bool kInterleaves = false;
  static V zero() { return broadcast_cell(0); }
  static V all(T x) { return broadcast_cell(x); }
  static V multiply_add(V a, V b, V sum) { return dot(a, b, sum); }
  static Vec floats(V sum) { return to_floats(sum); }
  template <int half>
  FASTSR_INLINE static void output(const Vec* m, Vec& x, Vec& y) {
    output_half_int<half>(m, x, y);
  }
  template <class Packed>
  static Vec finish(const Packed& conv, int k, Vec y) {
    return fma(y, broadcast(conv.scale.data()[k]), broadcast(conv.bias.data()[k]));
  }
  static Vec sigmoid(Vec y) { return coarse_sigmoid_vec(y); }
};

#if defined(FASTSR_VNNI)
struct InIntegersVnni : InIntegers {
  static constexpr bool kInterleaves = kInterleave;
  static V multiply_add(V a, V b, V sum) { return dot_vnni(a, b, sum); }
  static V multiply_add_all(const T* a, V b, V sum) { return dot_vnni_all(a, b, sum); }
};
#endif

}  // namespace
}  // namespace fastsr
