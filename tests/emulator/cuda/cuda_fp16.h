// IEEE half precision. Arithmetic is done in float and rounded, as by the hardware.
#pragma once
#include <cmath>
#if !defined(__FLT16_MANT_DIG__)
#error "the emulator needs a compiler with _Float16: g++ 12 or newer"
#endif

struct __half {
  _Float16 v;
  __half() = default;
  __half(float x) : v(static_cast<_Float16>(x)) {}
  __half(double x) : v(static_cast<_Float16>(x)) {}
  __half(int x) : v(static_cast<_Float16>(x)) {}
  __half(unsigned x) : v(static_cast<_Float16>(x)) {}
  __half(long x) : v(static_cast<_Float16>(x)) {}
  __half(long long x) : v(static_cast<_Float16>(x)) {}
  __half(bool x) : v(static_cast<_Float16>(static_cast<int>(x))) {}
  operator float() const { return static_cast<float>(v); }
  operator float() const volatile { return static_cast<float>(v); }
  template <class T>
  void operator=(const T& x) volatile {
    v = __half(x).v;
  }
};
using half = __half;
struct alignas(4) half2 {
  half x, y;
};
using __half2 = half2;

inline float __half2float(half x) { return x; }
inline half __float2half(float x) { return half(x); }
inline half __float2half_rn(float x) { return half(x); }
inline unsigned short __half_as_ushort(half x) { return __builtin_bit_cast(unsigned short, x); }
inline half __ushort_as_half(unsigned short x) { return __builtin_bit_cast(half, x); }
inline half2 __halves2half2(half x, half y) { return {x, y}; }
inline half2 make_half2(half x, half y) { return {x, y}; }
#define BINARY(op) \
  inline half operator op(half a, half b) { return half(float(a) op float(b)); }
BINARY(+)
BINARY(-) BINARY(*) BINARY(/)
#undef BINARY
#define COMPARISON(op) \
  inline bool operator op(half a, half b) { return float(a) op float(b); }
    COMPARISON(<) COMPARISON(<=) COMPARISON(>) COMPARISON(>=) COMPARISON(==) COMPARISON(!=)
#undef COMPARISON
        inline half operator-(half a) {
  return half(-float(a));
}
inline half& operator+=(half& a, half b) { return a = a + b; }
inline half& operator*=(half& a, half b) { return a = a * b; }
inline bool __hgt(half a, half b) { return a > b; }
inline bool __hlt(half a, half b) { return a < b; }
inline bool __hisnan(half a) { return std::isnan(float(a)); }
inline half __hfma(half a, half b, half c) { return half(std::fma(float(a), float(b), float(c))); }
inline half __hmax(half a, half b) { return half(std::fmax(float(a), float(b))); }
inline half __hmin(half a, half b) { return half(std::fmin(float(a), float(b))); }
inline half __habs(half a) { return half(std::fabs(float(a))); }
#define UNARY(name, f) \
  inline half name(half a) { return half(f(float(a))); }
UNARY(hexp, std::exp)
UNARY(hexp2, std::exp2) UNARY(hlog, std::log) UNARY(hlog2, std::log2) UNARY(hlog10, std::log10) UNARY(hsqrt, std::sqrt)
    UNARY(hrsqrt, 1.0f / std::sqrt) UNARY(hsin, std::sin) UNARY(hcos, std::cos) UNARY(hfloor, std::floor)
        UNARY(hceil, std::ceil) UNARY(htrunc, std::trunc) UNARY(hrint, std::nearbyint)
#undef UNARY
