"""The functions that a library may import: those of the C library of Linux, which every process has.

glibc and musl have all of them. What is missing here is a function of a compiler's own library (``__divti3``), which no
process has for certain, or a mistake of convc's.
"""

from __future__ import annotations

_MATH = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "copysign", "cos", "cosh", "erf",
    "erfc", "exp", "exp10", "exp2", "expm1", "fabs", "fdim", "floor", "fma", "fmax", "fmin", "fmod", "frexp",
    "hypot", "ilogb", "ldexp", "lgamma", "llrint", "llround", "log", "log10", "log1p", "log2", "logb", "lrint",
    "lround", "modf", "nearbyint", "nextafter", "pow", "remainder", "remquo", "rint", "round", "scalbln", "scalbn",
    "sin", "sincos", "sinh", "sqrt", "tan", "tanh", "tgamma", "trunc",
]  # fmt: skip
"""Functions of double (ISO C, section 7.12, and two extensions). Each has a twin for float, whose name ends in f."""
_MEMORY = [
    "bcmp", "calloc", "free", "madvise", "malloc", "memcmp", "memcpy", "memmove", "memset", "mmap", "munmap",
    "realloc",
]  # fmt: skip
_THREADS = [
    "clock_gettime", "getpid", "pthread_attr_destroy", "pthread_attr_init", "pthread_attr_setdetachstate",
    "pthread_attr_setstacksize", "pthread_cond_broadcast", "pthread_cond_destroy", "pthread_cond_init",
    "pthread_cond_signal", "pthread_cond_wait", "pthread_create", "pthread_mutex_destroy", "pthread_mutex_init",
    "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_sigmask", "sched_yield", "sigfillset",
]  # fmt: skip

IMPORTS = frozenset([*_MATH, *(f"{name}f" for name in _MATH), *_MEMORY, *_THREADS])
"""The names of the functions."""
