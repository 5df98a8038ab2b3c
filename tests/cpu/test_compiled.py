"""Compiled kernels in the cache on disk: every network finds those that another one left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.malformed import raises
from support.tolerances import assert_close

import convc
from convc.backends.cpu import codegen
from convc.backends.cpu.compiled import Compiled
from convc.backends.cpu.facts import facts
from convc.backends.cpu.target import host_target
from convc.backends.store import NAMES
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import f32
from convc.ir.ops.conv import Conv
from convc.ir.ops.unary import Abs, Relu
from convc.runtime.cpu.plan import Base, Call, Plan

X = np.linspace(-1, 1, 3 * 9 * 9, dtype=np.float32).reshape(1, 3, 9, 9)


def network(seed: int = 0, last: Any = None) -> Graph:
    """Two convolutions with weights of their own and an elementwise op."""
    b = Builder(f"net{seed}")
    rng = np.random.default_rng(seed)
    x = b.input("x", f32[1].with_shape(X.shape))
    for outputs in (5, 3):
        weight = b.constant(rng.standard_normal((outputs, x.type.sizes[1], 3, 3)).astype(np.float32))
        x = b.emit(Conv(pads=((1, 1), (1, 1))), x, weight)
    return b.finish([b.emit(last or Relu(), x)], ["y"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of compiled kernels, and of what LLVM says of processors, which it is asked for again."""
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path))
    facts.cache_clear()
    yield tmp_path / "compiled"
    facts.cache_clear()


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with each kernel that is compiled, by its first function."""
    found: list[str] = []
    original: Callable[..., Any] = codegen.lower

    def counted(func: Any, symbol: str, target: Any) -> Any:
        found.append(symbol)
        return original(func, symbol, target)

    monkeypatch.setattr(codegen, "lower", counted)
    return found


def test_another_network_finds_them(folder: Path, generated: list[str]) -> None:
    convc.compile(network())
    first = len(generated)
    again = convc.compile(network(seed=1))
    assert len(generated) == first > 1, "weights are no part of a kernel"
    assert_close(again(X), convc.compile(network(seed=1), cache=False)(X), tolerance=(0.0, 0.0))
    del generated[:]
    convc.compile(network(last=Abs()))
    assert len(generated) == 1, "one of the kernels differs"


def test_another_process_finds_them(folder: Path, tmp_path: Path) -> None:
    model = convc.compile(network())
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import convc, numpy as np
from convc.backends.cpu import codegen
from cpu.test_compiled import X, network
def lower(*_): raise AssertionError("a kernel is compiled again")
codegen.lower = lower
np.save({str(tmp_path / "y.npy")!r}, convc.compile(network())(X))
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert_close(np.load(tmp_path / "y.npy"), model(X), tolerance=(0.0, 0.0))


@pytest.mark.parametrize("options", [{"target": "x86-64-v2"}, {"threads": 3}, {"target": "x86-64-v3,x86-64-v4"}])
def test_what_differs_is_compiled(options: dict[str, Any], folder: Path, generated: list[str]) -> None:
    convc.compile(network(), threads=1)
    del generated[:]
    convc.compile(network(), **options)
    assert generated


@pytest.mark.parametrize("off", [{"cache": False}, None])
def test_switched_off(off: dict[str, Any] | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if off is None:
        monkeypatch.setenv("CONVC_CACHE", "")
    convc.compile(network(), **(off or {}))
    assert not folder.exists()


@pytest.mark.parametrize("how", ["flipped", "torn", "empty", "text", "json", "other kernel"])
def test_a_damaged_kernel_is_compiled_anew(how: str, folder: Path, generated: list[str]) -> None:
    want = convc.compile(network())(X)
    kernels = len(generated)
    paths = sorted(folder.glob("*.o"))
    wholes = [p.read_bytes() for p in paths]
    for i, (path, whole) in enumerate(zip(paths, wholes, strict=True)):
        flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
        damaged = {"flipped": flipped, "torn": whole[:-100], "empty": b"", "text": b"hello", "json": b"[]\n"}
        path.write_bytes(damaged.get(how, wholes[i - 1]))
    del generated[:]
    assert_close(convc.compile(network())(X), want, tolerance=(0.0, 0.0))
    assert len(generated) == kernels
    assert [p.read_bytes() for p in paths] == wholes


def test_an_error_loses_nothing(folder: Path, generated: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compiled before another kernel failed is kept."""
    original: Callable[..., Any] = codegen.generate

    def failing(lowered: Any, target: Any) -> Any:
        if any("abs" in str(name) for name in lowered.functions):
            raise RuntimeError("no such instruction")
        return original(lowered, target)

    monkeypatch.setattr(codegen, "generate", failing)
    with raises(convc.CompileError, "could not be compiled", "no such instruction"):
        convc.compile(network(last=Abs()))
    monkeypatch.undo()
    monkeypatch.setenv("CONVC_CACHE", str(folder.parent))
    assert list(folder.glob("*.o"))


def test_an_artifact_is_the_same_whatever_the_cache_had(folder: Path, tmp_path: Path) -> None:
    convc.compile(network(), cache=False).save(tmp_path / "alone")
    kernels = symbols(convc.compile(network()).plan)  # type: ignore[attr-defined]
    for file in folder.glob(f"{kernels[0]}-*.o"):
        file.unlink()  # its kernel comes first, and is compiled last now
    convc.compile(network()).save(tmp_path / "mixed")
    assert (tmp_path / "mixed").read_bytes() == (tmp_path / "alone").read_bytes()


def symbols(plan: Plan) -> list[str]:
    """The functions of a call, in order."""
    return [plan.kernels[c.kernel][0].symbol for c in plan.run.calls if isinstance(c, Call)]


def test_a_record_says_all() -> None:
    kernel = Compiled("convc_k", "rule", 12, 34, True, b"code\nof it", ((5, 3),), 6)
    assert Compiled.of(kernel.record()) == kernel


def test_what_llvm_knows_is_checked_for_damage(folder: Path) -> None:
    """A feature that the processor lacks would end the process."""
    convc.compile(network())
    (file,) = folder.glob("llvm-*.json")
    file.write_bytes(file.read_bytes().replace(b'"avx2"', b'"amx2"').replace(b'"neon"', b'"nein"'))
    facts.cache_clear()
    found = host_target().features
    facts.cache_clear()
    file.unlink()
    assert found == host_target().features


def test_files_have_names_of_the_cache(folder: Path) -> None:
    """Only these are deleted to make room."""
    convc.compile(network(), cache=True, threads=2, target="x86-64-v2")
    assert {p.suffix for p in folder.iterdir() if NAMES.fullmatch(p.name)} == {".o", ".json", ".convc"}
    assert [p.name for p in folder.iterdir() if not NAMES.fullmatch(p.name)] == ["lock"]


def test_hostile_names_of_kernels_are_symbols(folder: Path) -> None:
    """The symbols of an artifact are those of its plan."""
    model = convc.compile(network())
    plan = model.plan  # type: ignore[attr-defined]
    assert all(name.isidentifier() and name.startswith("convc_") for name in symbols(plan))
    bases = {base for c in plan.run.calls for base, _ in c.arguments}
    tensors = {-1 - i for i in range(len(plan.run.tensors))}
    assert bases == {*tensors, Base.PACKED, Base.PORTS, Base.PORTS + 1}


def test_files_are_as_others_are(folder: Path) -> None:
    """Other users may read the files of the cache as the umask says."""
    convc.compile(network())
    umask = os.umask(0)
    os.umask(umask)
    assert {p.stat().st_mode & 0o777 for p in folder.glob("*.o")} == {0o666 & ~umask}


def test_kernels_in_the_cache_need_no_tvm(tmp_path: Path) -> None:
    code = (
        "import sys, convc\n"
        "from convc import nn\n"
        "net = nn.Sequential(nn.Conv2D(32, 3, padding=1), nn.Conv2D(32, 1), nn.MaxPool2D(2))\n"
        "convc.compile(net, shapes={'x': (1, 32, 16, 16)}, threads=1)\n"
        "print('tvm' in sys.modules)"
    )
    env = {**os.environ, "CONVC_CACHE": str(tmp_path)}
    found = [subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip() for _ in range(2)]
    assert found == ["True", "False"]
