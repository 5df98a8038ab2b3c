"""How kernels and the functions around them are called: statuses, the context of a call, and memory by address.

Functions take addresses as 64-bit integers. What TVM has no expression for is given as LLVM IR.
"""

from __future__ import annotations

from typing import Any

import tvm
from tvm import tirx
from tvm.ir import PointerType, PrimType

CONTEXT = ("launch", "pool", "threads", "parts", "trace")
"""The elements of a context.

``launch`` is the address of ``convc_pool_launch`` and ``pool`` that of the pool. ``threads`` is the number of threads
that may work. ``parts`` is the address of memory for the parts of parallel loops, a piece for each thread. ``trace`` is
the address of a function that traced code calls.
"""
STATUS = PrimType("int32")
DONE = tirx.Return(tirx.const(0, "int32"))
"""Every function returns 0, since the code generator supports no return without a value."""
_READ = "convc_read"
READ_DEFINITION = f"""define i64 @{_READ}(i64 %record, i64 %index) alwaysinline {{
  %start = inttoptr i64 %record to ptr
  %at = getelementptr i64, ptr %start, i64 %index
  %value = load i64, ptr %at
  ret i64 %value
}}"""
_ADDRESS = "convc_address"
ADDRESS_DEFINITION = f"""define i64 @{_ADDRESS}(ptr %data) alwaysinline {{
  %address = ptrtoint ptr %data to i64
  ret i64 %address
}}"""


def read(address: Any, index: int) -> Any:
    """The 64-bit integer at an index of an array. ``READ_DEFINITION`` must be imported around the expression."""
    return tirx.call_extern("int64", _READ, address, tirx.const(index, "int64"))


def address_of(data: Any) -> Any:
    """The address that a pointer holds. ``ADDRESS_DEFINITION`` must be imported around the expression."""
    return tirx.call_extern("int64", _ADDRESS, data)


def pointer(base: Any, offset: Any, dtype: str = "void") -> Any:
    """The pointer to the address ``offset`` bytes after ``base``. The offset is an expression of 64 bits."""
    return pointer_to(base + offset, dtype)


def pointer_to(address: Any, dtype: str) -> Any:
    """The pointer to an address."""
    return tirx.reinterpret(PointerType(PrimType(dtype)), address)


def importing(text: str, body: Any) -> Any:
    """The statement, able to call functions that are given as LLVM IR."""
    return tirx.AttrStmt(tvm.ir.StringImm("default"), "pragma_import_llvm", tvm.ir.StringImm(text), body)
