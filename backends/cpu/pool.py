"""The thread pool of the runtime, as a module of machine code that artifacts with parallel loops carry.

Its source is ``pool.c``. ``pool.ll`` is the LLVM IR made from it, so that neither installing nor compiling needs a C
compiler. After a change of the source, ``python -m convc.backends.cpu.pool FOLDER`` writes the IR anew into the folder
that holds ``pool.c``. This needs ``pip install ziglang==0.17.1``, which contains clang 22.1.8.
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import tvm_ffi

from convc.runtime.cpu.pool import LAUNCH, NEW
from convc.runtime.files import temporary_folder

from .target import Target

_load_ir = tvm_ffi.get_global_func("ffi.Module.load_from_file.ll")
_LAYOUTS = {
    "x86_64": "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128",
    "aarch64": "e-m:e-p270:32:32-p271:32:32-p272:64:64-i8:8:32-i16:16:32-i64:64-i128:128-n32:64-S128-Fn32",
}
"""The data layout that LLVM's code generator expects in a module, by the family of processors."""


def pool_module(target: Target) -> Any:
    """The thread pool as a module for a target, which can run in memory or be written as an object file."""
    return ir_module((Path(__file__).parent / "pool.ll").read_text(encoding="utf-8"), target)


def ir_module(text: str, target: Target) -> Any:
    """LLVM IR that names no target as a module for a target."""
    settings = json.dumps({"kind": "llvm", "mtriple": target.triple}).replace('"', r"\22")
    head = (
        f'target datalayout = "{_LAYOUTS[target.family]}"\ntarget triple = "{target.triple}"\n'
        f'!llvm.module.flags = !{{!0}}\n!0 = !{{i32 2, !"tvm_target", !"{settings}"}}\n'
    )
    with temporary_folder() as folder:
        path = folder / "module.ll"
        path.write_text(head + text, encoding="utf-8")
        return _load_ir(str(path), "ll")


# -- making the IR ---------------------------------------------------------------------------------------------------

_FLAGS = (
    "-S -emit-llvm -g0 -O2 -fno-unroll-loops -fno-vectorize -fno-slp-vectorize -fno-strict-aliasing -fPIC -std=c11 "
    "-Wall -Wextra -fno-sanitize=all -fno-stack-protector -fno-unwind-tables -fno-asynchronous-unwind-tables"
)
_GETTER = """
define i32 @__tvm_ffi_{name}(i64 %self, ptr %args, i32 %count, ptr %result) nounwind {{
  store i32 1, ptr %result
  %value = getelementptr i8, ptr %result, i64 8
  store i64 ptrtoint (ptr @{name} to i64), ptr %value
  ret i32 0
}}
"""
"""A function that returns the address of another function of a module in memory (``lower.directory``)."""


def ir_of(source: Path) -> str:
    """The LLVM IR of the thread pool, made from its C source.

    The IR must be the same for all families of processors, since it names none. Raises ``SystemExit`` with the
    differences when it is not.
    """
    texts = {family: _compiled(source, family) for family in _LAYOUTS}
    (first, text), *others = texts.items()
    for family, other in others:
        if other != text:
            lines = difflib.unified_diff(text.splitlines(), other.splitlines(), first, family, lineterm="")
            raise SystemExit("\n".join(lines))
    head = f"; Made of {source.name} by python -m convc.backends.cpu.pool. One text for {', '.join(texts)}.\n\n"
    return head + text + "".join(_GETTER.format(name=name) for name in (NEW, LAUNCH))


def _compiled(source: Path, family: str) -> str:
    with temporary_folder() as folder:
        made = folder / "pool.ll"
        command = [sys.executable, "-m", "ziglang", "cc", *_FLAGS.split(), "-target", f"{family}-linux-gnu.2.17"]
        subprocess.run([*command, "-o", str(made), str(source)], check=True)
        text = made.read_text(encoding="utf-8")
    text = re.sub(r"^(source_filename|target|attributes|!|;).*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r",? ![\w.]+ !\d+| *;.*", "", text)  # metadata and comments
    text = re.sub(r" #\d+", " nounwind", text)  # replaces attributes that name a processor or are optional
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    where = Path(sys.argv[1])
    (where / "pool.ll").write_text(ir_of(where / "pool.c"), encoding="utf-8")
