"""What LLVM knows about processors. It is kept in the cache on disk, so that TVM need not be loaded for it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any

from convc.runtime.cpu.host import host

from ..identity import compiler
from ..store import Store, store


class Facts:
    """What LLVM says about this machine and about processors that it knows by name."""

    def __init__(self, known: dict[str, Any]) -> None:
        self._known = known
        self._new = False

    def system(self) -> tuple[str, str]:
        """LLVM's name of this processor, and its target triple."""
        cpu, triple = self._fact("system", _system)
        return cpu, triple

    def features(self, mcpu: str, triple: str) -> frozenset[str]:
        """The features that a processor has by LLVM's account."""
        return frozenset(self._fact(f"{mcpu} {triple}", lambda: _features(mcpu, triple)))

    def keep(self, files: Store) -> None:
        """Write what is known to the cache, when some of it is new."""
        if self._new:
            files.keep({_file(): json.dumps(self._known).encode()})
            self._new = False

    def _fact(self, key: str, ask: Callable[[], list[str]]) -> Any:
        if key not in self._known:
            self._known[key] = ask()
            self._new = True
        return self._known[key]


@functools.cache
def facts() -> Facts:
    """The facts, of which the cache may know some."""
    files = store()
    record = files.read(_file()) if files else None
    return Facts(json.loads(record) if record else {})


def _file() -> str:
    """The name of the file of this machine's facts, which another machine may share the folder with."""
    here = f"{compiler()} {host().name} {sorted(host().features)}"
    return f"llvm-{hashlib.sha256(here.encode()).hexdigest()[:24]}.json"


def _system() -> list[str]:
    import tvm  # noqa: F401  registers the functions
    import tvm_ffi

    return [str(tvm_ffi.get_global_func(f"target.llvm_get_system_{what}")()) for what in ("cpu", "triple")]


def _features(mcpu: str, triple: str) -> list[str]:
    import tvm
    import tvm_ffi

    plain = tvm.target.Target({"kind": "llvm", "mcpu": mcpu, "mtriple": triple})
    with plain:
        return sorted(map(str, tvm_ffi.get_global_func("target.llvm_get_cpu_features")(plain)))
