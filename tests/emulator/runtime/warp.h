// The operations of a whole warp: shuffles, votes, ldmatrix, mma.sync. Fragments have the layouts of the PTX ISA.
#pragma once
#include "../cuda/cuda_fp16.h"
#include "shared.h"

namespace emulator {

struct Shuffle {
  uint64_t value;
  int from;  // a lane of the warp
  uint64_t got;
  static void run(Lane* warp, unsigned lanes) {
    for (unsigned i = 0; i < lanes; i++) {
      auto* mine = static_cast<Shuffle*>(warp[i].operands);
      if (mine->from < 0 || mine->from >= static_cast<int>(lanes))
        fail("a shuffle from lane %d of %u", mine->from, lanes);
      mine->got = static_cast<Shuffle*>(warp[mine->from].operands)->value;
    }
  }
};
uint64_t shuffle(uint64_t value, int from) {
  Shuffle mine{value, from, value};
  meet(Shuffle::run, &mine);
  return mine.got;
}

// Loads a matrix of 8x8 halves from each eight addresses. Lane l gets two neighbours of row l / 4, or of column l / 4
// when transposed.
template <int N, bool TRANSPOSED>
struct Load {
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
          shared_access(at + 2 * column, 2, warp[l].number, false);
          memcpy(&pair[e], arena + at + 2 * column, 2);
        }
        memcpy(&static_cast<Load*>(warp[l].operands)->got[m], pair, 4);
      }
  }
};
template <int N>
void load(bool transposed, unsigned* registers, unsigned address) {
  Load<N, false> rows{address, {}};
  Load<N, true> columns{address, {}};
  if (transposed)
    meet(columns.run, &columns);
  else
    meet(rows.run, &rows);
  memcpy(registers, transposed ? columns.got : rows.got, sizeof rows.got);
}
void ldmatrix(bool transposed, int matrices, unsigned* registers, unsigned address) {
  if (matrices == 1)
    load<1>(transposed, registers, address);
  else if (matrices == 2)
    load<2>(transposed, registers, address);
  else
    load<4>(transposed, registers, address);
}

struct Half {  // two to a register
  static constexpr int PACKED = 2;
  static float get(unsigned word, int e) {
    half h;
    unsigned short bits = word >> 16 * e;
    memcpy(&h, &bits, 2);
    return h;
  }
};
struct Tf32 {  // the hardware truncates the low bits
  static constexpr int PACKED = 1;
  static float get(unsigned word, int) {
    word &= ~0x1fffu;
    float f;
    memcpy(&f, &word, 4);
    return f;
  }
};

// C += A B, m16n8kK: A is 16xK, B is Kx8, in registers of PACKED elements, C is 16x8 in float32.
template <class E, int K>
struct Mma {
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
template <class E, int K>
void multiply(float* c, const unsigned* a, const unsigned* b) {
  Mma<E, K> mine;
  memcpy(mine.a, a, sizeof mine.a);
  memcpy(mine.b, b, sizeof mine.b);
  memcpy(mine.c, c, sizeof mine.c);
  meet(mine.run, &mine);
  memcpy(c, mine.c, sizeof mine.c);
}
void mma_m16n8k16_f16(float* c, const unsigned* a, const unsigned* b) { multiply<Half, 16>(c, a, b); }
void mma_m16n8k8_f16(float* c, const unsigned* a, const unsigned* b) { multiply<Half, 8>(c, a, b); }
void mma_m16n8k8_tf32(float* c, const unsigned* a, const unsigned* b) { multiply<Tf32, 8>(c, a, b); }
void mma_m16n8k4_tf32(float* c, const unsigned* a, const unsigned* b) { multiply<Tf32, 4>(c, a, b); }

}  // namespace emulator
