"""Code that artifacts carry besides their kernels: what runs the calls of a network, and the thread pool.

Its sources are ``program.c`` and ``pool.c``. Beside each is the LLVM IR made from it, so that neither installing nor
compiling needs a C compiler. After a change of a source, ``python -m convc.backends.cpu.carried FOLDER`` writes the IR
anew into the folder that holds the sources. This needs ``pip install ziglang==0.17.1``, which contains clang 22.1.8.
"""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from convc.runtime.files import temporary_folder

from ..store import Store
from .compiled import Compiled, find, keep
from .machine_code import object_of
from .target import Target

SOURCES = ("program", "pool")
"""The names of the sources: what every artifact carries, and what only those with parallel loops do."""
_LAYOUTS = {
    "x86_64": "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128",
    "aarch64": "e-m:e-p270:32:32-p271:32:32-p272:64:64-i8:8:32-i16:16:32-i64:64-i128:128-n32:64-S128-Fn32",
}
"""The data layout that LLVM's code generator expects in a module, by the family of processors."""


def text_of(source: str) -> str:
    """The LLVM IR of a source, which names no target."""
    return (Path(__file__).parent / f"{source}.ll").read_text(encoding="utf-8")


def carried(source: str, target: Target, store: Store | None = None) -> bytes:
    """The object file of a source for a target. It is looked up in the store, and kept there."""
    name = f"convc_{source}_{target.triple}"
    found = find(store, name)
    if found is None:
        found = Compiled(name, "", 0, 0, False, object_of(ir_module(text_of(source), target)))
        keep(store, [found])
    return found.code


def ir_module(text: str, target: Target) -> Any:
    """LLVM IR that names no target as a module for a target."""
    import tvm  # noqa: F401  registers the function
    import tvm_ffi

    settings = json.dumps({"kind": "llvm", "mtriple": target.triple}).replace('"', r"\22")
    head = (
        f'target datalayout = "{_LAYOUTS[target.family]}"\ntarget triple = "{target.triple}"\n'
        f'!llvm.module.flags = !{{!0}}\n!0 = !{{i32 2, !"tvm_target", !"{settings}"}}\n'
    )
    with temporary_folder() as folder:
        path = folder / "module.ll"
        path.write_text(head + text, encoding="utf-8")
        return tvm_ffi.get_global_func("ffi.Module.load_from_file.ll")(str(path), "ll")


# -- making the IR ---------------------------------------------------------------------------------------------------

_FLAGS = (
    "-S -emit-llvm -g0 -O2 -fno-unroll-loops -fno-vectorize -fno-slp-vectorize -fno-strict-aliasing -fPIC -std=c11 "
    "-Wall -Wextra -fno-sanitize=all -fno-stack-protector -fno-unwind-tables -fno-asynchronous-unwind-tables"
)


def ir_of(source: Path) -> str:
    """The LLVM IR made from a C source.

    The IR must be the same for all families of processors, since it names none. Raises ``SystemExit`` with the
    differences when it is not.
    """
    texts = {family: _compiled(source, family) for family in _LAYOUTS}
    (first, text), *others = texts.items()
    for family, other in others:
        if other != text:
            lines = difflib.unified_diff(text.splitlines(), other.splitlines(), first, family, lineterm="")
            raise SystemExit("\n".join(lines))
    return (
        f"; Made of {source.name} by python -m convc.backends.cpu.carried. One text for {', '.join(texts)}.\n\n{text}"
    )


def _compiled(source: Path, family: str) -> str:
    with temporary_folder() as folder:
        made = folder / "made.ll"
        command = [sys.executable, "-m", "ziglang", "cc", *_FLAGS.split(), "-target", f"{family}-linux-gnu.2.17"]
        subprocess.run([*command, "-o", str(made), str(source)], check=True)
        text = made.read_text(encoding="utf-8")
    text = re.sub(r"^(source_filename|target|attributes|!|;).*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r",? ![\w.]+ !\d+| *;.*", "", text)  # metadata and comments
    text = re.sub(r" #\d+", " nounwind", text)  # replaces attributes that name a processor or are optional
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    for name in SOURCES:
        where = Path(sys.argv[1])
        (where / f"{name}.ll").write_text(ir_of(where / f"{name}.c"), encoding="utf-8")
