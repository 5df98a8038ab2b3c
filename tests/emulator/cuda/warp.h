// What the lanes of a warp do together: shuffles, votes, ldmatrix, mma.sync. Fragments are laid out as in the PTX ISA.
#pragma once
#include "cuda_fp16.h"
#include "shared.h"

namespace emulator {

template <class T> struct Shuffle {
  T value;
  int from;  // a lane of the warp
  T got;
  static void run(Lane* warp, unsigned lanes) {
    for (unsigned i = 0; i < lanes; i++) {
      auto* mine = static_cast<Shuffle*>(warp[i].operands);
      if (mine->from < 0 || mine->from >= static_cast<int>(lanes)) fail("a shuffle from lane %d of %u", mine->from, lanes);
      mine->got = static_cast<Shuffle*>(warp[mine->from].operands)->value;
    }
  }
};
template <class T> T shuffle(T value, int from) {
  Shuffle<T> mine{value, from, value};
  meet(Shuffle<T>::run, &mine);
  return mine.got;
}
inline int lane() { return current->number % WARP; }
inline int lanes_of_warp() { unsigned first = current->number & ~(WARP - 1), n = blockDim.x * blockDim.y * blockDim.z - first; return n < WARP ? n : WARP; }

// A matrix of 8x8 halves from each eight addresses: lane l gets two neighbours of row l / 4 (of column l / 4 when transposed).
template <int N, bool TRANSPOSED> struct Load {
  unsigned address, got[N];
  static void run(Lane* warp, unsigned lanes) {
    if (lanes != WARP) fail("ldmatrix by %u lanes", lanes);
    for (unsigned l = 0; l < WARP; l++)
      for (int m = 0; m < N; m++) {
        unsigned short pair[2];
        for (int e = 0; e < 2; e++) {
          int row = TRANSPOSED ? l % 4 * 2 + e : l / 4, column = TRANSPOSED ? l / 4 : l % 4 * 2 + e;
          unsigned at = static_cast<Load*>(warp[8 * m + row].operands)->address;
          if (at % 16) fail("ldmatrix of a row that does not start at a multiple of 16 bytes");
          memcpy(&pair[e], arena + at + 2 * column, 2);
        }
        memcpy(&static_cast<Load*>(warp[l].operands)->got[m], pair, 4);
      }
  }
};
template <bool TRANSPOSED, class... R> void ptx_ldmatrix_into(unsigned address, R&... registers) {
  Load<sizeof...(R), TRANSPOSED> mine{address, {}};
  meet(mine.run, &mine);
  int i = 0;
  ((registers = static_cast<R>(mine.got[i++])), ...);
}
template <bool T, class A> void ptx_ldmatrix(A& a, unsigned address) { ptx_ldmatrix_into<T>(address, a); }
template <bool T, class A> void ptx_ldmatrix(A& a, A& b, unsigned address) { ptx_ldmatrix_into<T>(address, a, b); }
template <bool T, class A> void ptx_ldmatrix(A& a, A& b, A& c, A& d, unsigned address) { ptx_ldmatrix_into<T>(address, a, b, c, d); }

struct Half {  // two to a register
  static constexpr int PACKED = 2;
  static float get(unsigned word, int e) { half h; unsigned short bits = word >> 16 * e; memcpy(&h, &bits, 2); return h; }
};
struct Tf32 {  // the hardware drops the low bits
  static constexpr int PACKED = 1;
  static float get(unsigned word, int) { word &= ~0x1fffu; float f; memcpy(&f, &word, 4); return f; }
};

// D = A B + C, m16n8kK: A is 16xK, B is Kx8, in registers of PACKED elements, C and D 16x8 in float32 (or in halves, two to a register).
template <class E, int K> struct Mma {
  static constexpr int P = E::PACKED, NA = K / 2 / P, NB = K / 4 / P, STEP = 4 * P;
  unsigned a[NA], b[NB];
  float c[4];
  static void run(Lane* warp, unsigned lanes) {
    if (lanes != WARP) fail("mma.sync by %u lanes", lanes);
    float a[16][K], b[K][8];
    for (unsigned l = 0; l < WARP; l++) {
      auto* mine = static_cast<Mma*>(warp[l].operands);
      for (int k = 0; k < K / STEP; k++)
        for (int e = 0; e < P; e++) {
          int column = k * STEP + l % 4 * P + e;
          for (int r = 0; r < 2; r++) a[l / 4 + 8 * r][column] = E::get(mine->a[k * 2 + r], e);
          b[column][l / 4] = E::get(mine->b[k], e);
        }
    }
    for (unsigned l = 0; l < WARP; l++) {
      auto* mine = static_cast<Mma*>(warp[l].operands);
      for (int i = 0; i < 4; i++) {
        const float* row = a[l / 4 + i / 2 * 8];
        int column = l % 4 * 2 + i % 2;
        float sum = mine->c[i];
        for (int k = 0; k < K; k++) sum += row[k] * b[k][column];
        mine->c[i] = sum;
      }
    }
  }
};
template <class T> unsigned bits(T x) { static_assert(sizeof(T) == 4, "a register has 32 bits"); unsigned u; memcpy(&u, &x, 4); return u; }

template <class M, class A> void mma(M& mine, float* d[4], const A* registers) {
  for (int i = 0; i < M::NA; i++) mine.a[i] = registers[i];
  for (int i = 0; i < M::NB; i++) mine.b[i] = registers[M::NA + i];
  meet(M::run, &mine);
  for (int i = 0; i < 4; i++) *d[i] = mine.c[i];
}
#define ACCUMULATORS float &d0, float &d1, float &d2, float &d3
#define SUMS float c0, float c1, float c2, float c3
inline void ptx_mma_m16n8k16_f16(ACCUMULATORS, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1, SUMS) {
  Mma<Half, 16> mine{{}, {}, {c0, c1, c2, c3}};
  float* d[] = {&d0, &d1, &d2, &d3};
  unsigned r[] = {a0, a1, a2, a3, b0, b1};
  mma(mine, d, r);
}
inline void ptx_mma_m16n8k8_f16(ACCUMULATORS, unsigned a0, unsigned a1, unsigned b0, SUMS) {
  Mma<Half, 8> mine{{}, {}, {c0, c1, c2, c3}};
  float* d[] = {&d0, &d1, &d2, &d3};
  unsigned r[] = {a0, a1, b0};
  mma(mine, d, r);
}
inline void ptx_mma_m16n8k8_tf32(ACCUMULATORS, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1, SUMS) {
  Mma<Tf32, 8> mine{{}, {}, {c0, c1, c2, c3}};
  float* d[] = {&d0, &d1, &d2, &d3};
  unsigned r[] = {a0, a1, a2, a3, b0, b1};
  mma(mine, d, r);
}
inline void ptx_mma_m16n8k4_tf32(ACCUMULATORS, unsigned a0, unsigned a1, unsigned b0, SUMS) {
  Mma<Tf32, 4> mine{{}, {}, {c0, c1, c2, c3}};
  float* d[] = {&d0, &d1, &d2, &d3};
  unsigned r[] = {a0, a1, b0};
  mma(mine, d, r);
}
#undef ACCUMULATORS
#undef SUMS

// cvt.rna.tf32.f32: to the nearest, ties away from zero
template <class R> void ptx_to_tf32(R& to, float x) {
  unsigned u = (bits(x) + 0x1000u) & ~0x1fffu;
  memcpy(&to, &u, 4);
}

}  // namespace emulator

template <class T> T __shfl_sync(unsigned, T v, int from, int width = 32) { int l = emulator::lane(); return emulator::shuffle(v, (l & ~(width - 1)) + (from & (width - 1))); }
template <class T> T __shfl_down_sync(unsigned, T v, int delta, int width = 32) {
  int l = emulator::lane();
  return emulator::shuffle(v, (l & (width - 1)) + delta < width && l + delta < emulator::lanes_of_warp() ? l + delta : l);
}
template <class T> T __shfl_up_sync(unsigned, T v, int delta, int width = 32) { int l = emulator::lane(); return emulator::shuffle(v, (l & (width - 1)) >= delta ? l - delta : l); }
template <class T> T __shfl_xor_sync(unsigned, T v, int mask, int width = 32) {
  int l = emulator::lane(), from = l ^ mask;
  return emulator::shuffle(v, (from & ~(width - 1)) == (l & ~(width - 1)) ? from : l);
}
inline unsigned __activemask() { int n = emulator::lanes_of_warp(); return n == 32 ? ~0u : (1u << n) - 1; }
