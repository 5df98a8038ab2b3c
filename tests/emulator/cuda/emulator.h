// The functions that translated kernels call, which runtime/ defines. Kernels are compiled with -fsanitize=thread,
// which reports each access to memory; the runtime is compiled without it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

struct uint3 {
  unsigned x, y, z;
};
extern uint3 threadIdx, blockIdx, blockDim, gridDim;

void __syncthreads();
void __syncwarp(unsigned mask = ~0u);

namespace emulator {

constexpr unsigned WARP = 32;
[[noreturn]] void fail(const char* format, ...);
int lane();
int lanes_of_warp();

struct StaticArray {
  size_t bytes, alignment, launch, at;
};
void* static_shared(StaticArray& array);
void* dynamic_shared();
unsigned shared_address(const void* p);

// The static shared array of the declaration with number ID.
template <class T, int ID, size_t ALIGNMENT>
T& static_shared() {
  static StaticArray array{sizeof(T), ALIGNMENT, 0, 0};
  return *static_cast<T*>(static_shared(array));
}

void ptx_copy(unsigned to, const void* from, int bytes);
void ptx_copy(unsigned to, const void* from, int bytes, int filled);
void ptx_copy_if(unsigned to, const void* from, int bytes, int predicate);
void ptx_commit();
void ptx_wait(int allowed);
void ptx_wait_all();

uint64_t shuffle(uint64_t value, int from);
template <class T>
T shuffled(T value, int from) {
  static_assert(sizeof(T) <= 8, "a shuffle moves up to 64 bits");
  uint64_t word = 0;
  memcpy(&word, &value, sizeof value);
  word = shuffle(word, from);
  memcpy(&value, &word, sizeof value);
  return value;
}

void ldmatrix(bool transposed, int matrices, unsigned* registers, unsigned address);
template <bool T, class A>
void ptx_ldmatrix(A& a, unsigned address) {
  unsigned r[1];
  ldmatrix(T, 1, r, address);
  a = r[0];
}
template <bool T, class A>
void ptx_ldmatrix(A& a, A& b, unsigned address) {
  unsigned r[2];
  ldmatrix(T, 2, r, address);
  a = r[0], b = r[1];
}
template <bool T, class A>
void ptx_ldmatrix(A& a, A& b, A& c, A& d, unsigned address) {
  unsigned r[4];
  ldmatrix(T, 4, r, address);
  a = r[0], b = r[1], c = r[2], d = r[3];
}

// C += A B in the registers of each lane.
void mma_m16n8k16_f16(float* c, const unsigned* a, const unsigned* b);
void mma_m16n8k8_f16(float* c, const unsigned* a, const unsigned* b);
void mma_m16n8k8_tf32(float* c, const unsigned* a, const unsigned* b);
void mma_m16n8k4_tf32(float* c, const unsigned* a, const unsigned* b);
#define MMA_WIDE(name)                                                                                      \
  inline void ptx_##name(float& d0, float& d1, float& d2, float& d3, unsigned a0, unsigned a1, unsigned a2, \
                         unsigned a3, unsigned b0, unsigned b1, float c0, float c1, float c2, float c3) {   \
    float c[] = {c0, c1, c2, c3};                                                                           \
    unsigned a[] = {a0, a1, a2, a3}, b[] = {b0, b1};                                                        \
    name(c, a, b);                                                                                          \
    d0 = c[0], d1 = c[1], d2 = c[2], d3 = c[3];                                                             \
  }
#define MMA_NARROW(name)                                                                                              \
  inline void ptx_##name(float& d0, float& d1, float& d2, float& d3, unsigned a0, unsigned a1, unsigned b0, float c0, \
                         float c1, float c2, float c3) {                                                              \
    float c[] = {c0, c1, c2, c3};                                                                                     \
    unsigned a[] = {a0, a1}, b[] = {b0};                                                                              \
    name(c, a, b);                                                                                                    \
    d0 = c[0], d1 = c[1], d2 = c[2], d3 = c[3];                                                                       \
  }
MMA_WIDE(mma_m16n8k16_f16)
MMA_WIDE(mma_m16n8k8_tf32)
MMA_NARROW(mma_m16n8k8_f16)
MMA_NARROW(mma_m16n8k4_tf32)
#undef MMA_WIDE
#undef MMA_NARROW

// cvt.rna.tf32.f32: to the nearest, ties away from zero
template <class R>
void ptx_to_tf32(R& to, float x) {
  unsigned u;
  memcpy(&u, &x, 4);
  u = (u + 0x1000u) & ~0x1fffu;
  memcpy(&to, &u, 4);
}

// The kernels of a program, by name.
struct Kernel {
  const char* name;
  void (*run)(void** arguments);
  unsigned parameters;
};
extern const Kernel kernels[];
template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(static_cast<A>(arguments[I])...);
}
template <auto KERNEL>
struct Caller;
template <class... A, void (*KERNEL)(A...)>
struct Caller<KERNEL> {
  static constexpr unsigned PARAMETERS = sizeof...(A);
  static void run(void** arguments) { call(KERNEL, arguments, std::index_sequence_for<A...>()); }
};

}  // namespace emulator

#define __cvta_generic_to_shared(p) emulator::shared_address(p)

template <class T>
T __shfl_sync(unsigned, T v, int from, int width = 32) {
  int l = emulator::lane();
  return emulator::shuffled(v, (l & ~(width - 1)) + (from & (width - 1)));
}
template <class T>
T __shfl_down_sync(unsigned, T v, int delta, int width = 32) {
  int l = emulator::lane();
  return emulator::shuffled(v,
                            (l & (width - 1)) + delta < width && l + delta < emulator::lanes_of_warp() ? l + delta : l);
}
template <class T>
T __shfl_up_sync(unsigned, T v, int delta, int width = 32) {
  int l = emulator::lane();
  return emulator::shuffled(v, (l & (width - 1)) >= delta ? l - delta : l);
}
template <class T>
T __shfl_xor_sync(unsigned, T v, int mask, int width = 32) {
  int l = emulator::lane(), from = l ^ mask;
  return emulator::shuffled(v, (from & ~(width - 1)) == (l & ~(width - 1)) ? from : l);
}
inline unsigned __activemask() {
  int n = emulator::lanes_of_warp();
  return n == 32 ? ~0u : (1u << n) - 1;
}
