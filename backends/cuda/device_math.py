"""Mathematical functions on GPUs: CUDA's own where it has them, others as source placed before the kernels.

Code must be compiled without ``--use_fast_math``: its ``expf`` is off by more than a network's tolerance, and its
division flushes to zero. Errors of CUDA's functions are in the CUDA C++ Programming Guide, "Mathematical Functions"
(expf 1 unit in the last place, logf 1, tanhf 2, erff 2).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tvm import tirx

from ..intrinsics import INTRINSICS, register_lowering

LIBRARY = {"exp": "expf", "expm1": "expm1f", "log": "logf", "log1p": "log1pf", "tanh": "tanhf", "erf": "erff"}
"""The intrinsics that are functions of CUDA's own library."""
DEFINED = {
    "sigmoid": "return 1.0f / (1.0f + expf(-a));",
    "silu": "return a / (1.0f + expf(-a));",
    "gelu": "return 0.5f * a * (1.0f + erff(a * 0.70710678f));",
    # a tanh(log(1 + e**a)), with tanh as n / (n + 2) where n = e**a (e**a + 2); it is 1 from 20 on
    "mish": "float e = expf(a > 20.0f ? 20.0f : a), n = e * (e + 2.0f); return a * (n / (n + 2.0f));",
    # fmaxf and fminf ignore NaN; here a NaN in a fails both comparisons, so a is chosen
    "maximum": "return a < b || b != b ? b : a;",
    "minimum": "return a > b || b != b ? b : a;",
}
"""The bodies of the other functions, of operands ``a`` and ``b``."""


def definitions(names: Collection[str]) -> str:
    """CUDA source that defines those of these intrinsics that CUDA's library does not have."""
    return "".join(
        f"static __device__ __forceinline__ float {_symbol(name)}"
        f"({', '.join(f'float {x}' for x in 'ab'[: INTRINSICS[name]])}) {{ {DEFINED[name]} }}\n"
        for name in sorted(names)
        if name in DEFINED
    )


def _symbol(name: str) -> str:
    return LIBRARY.get(name, f"convc_{name}")


def _lower(name: str, call: Any) -> Any:
    return tirx.call_pure_extern(str(call.ty.dtype), _symbol(name), *call.args)  # TVM calls it lane by lane for vectors


register_lowering("cuda", _lower)
