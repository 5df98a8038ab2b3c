"""Artifacts for other processors and for several of them, and reproducible builds."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.compiling import compiled
from support.malformed import raises
from support.tolerances import assert_close

import convc
from convc import ArtifactError, CompileError, DeviceError, nn
from convc.backends.cpu import link as linking
from convc.backends.cpu.link import linker
from convc.backends.cpu.target import AARCH64, X86_LEVELS, host_target, parse_target, parse_targets
from convc.runtime.artifact import read_artifact, write_artifact
from convc.runtime.cpu import model as cpu_model
from convc.runtime.cpu.host import Host, host
from convc.runtime.description import Part

X = np.random.default_rng(0).standard_normal((1, 8, 12, 12)).astype(np.float32)
X86 = host_target().family == "x86_64"
needs_x86 = pytest.mark.skipif(not X86, reason="levels of x86-64 run on x86-64")


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Conv2D(16, kernel_size=3, padding=1, activation="relu"), nn.Conv2D(8, kernel_size=1))


def network(*targets: str, threads: int | None = 1) -> Any:
    return convc.compile(layers(), ",".join(targets) or "cpu", {"x": X.shape}, threads)


def machine(code: bytes | memoryview) -> int:
    """The machine number of an ELF file: 62 is x86-64, 183 is AArch64."""
    assert bytes(code[:4]) == b"\x7fELF"
    return int(struct.unpack_from("<H", code, 18)[0])


# -- targets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*X86_LEVELS, *AARCH64])
def test_named_targets_are_known_to_llvm(name: str) -> None:
    target = parse_target(name)
    assert target.family == ("x86_64" if name in X86_LEVELS else "aarch64")
    assert {"x86_64": "sse2", "aarch64": "neon"}[target.family] in target.features
    if name != "aarch64":
        assert (
            target.features > parse_target("aarch64" if name in AARCH64 else "x86-64-v2").features
            or name == "x86-64-v2"
        )


def test_several_targets() -> None:
    assert [t.mcpu for t in parse_targets("x86-64-v2,neoverse-n1,x86-64-v2", 3)] == ["x86-64-v2", "neoverse-n1"]
    assert parse_target("native", 3) == host_target(3)
    with raises(CompileError, "unknown target 'z80'", "native", "neoverse-n1"):
        network("x86-64-v2", "z80")


def test_machine_code_for_another_family(tmp_path: Path) -> None:
    other = "neoverse-n1" if X86 else "x86-64-v3"
    model = network(other)
    (object_file, *_) = model.machine_code.write(tmp_path)
    assert machine(object_file.read_bytes()) == (183 if X86 else 62)
    with raises(DeviceError, f"compiled for {other}", "lacks", "save it"):
        model(X)


def other_linker() -> bool:
    target = parse_target("aarch64" if X86 else "x86-64-v2")
    try:
        return bool(linker(target.family, host().family))
    except ArtifactError:
        return False


@pytest.mark.skipif(not other_linker(), reason="no linker for another family: pip install ziglang, or lld")
def test_an_artifact_for_another_family(tmp_path: Path) -> None:
    model = network("neoverse-n1" if X86 else "x86-64-v3")
    model.save(tmp_path / "m.so")
    (part,) = read_artifact(tmp_path / "m.so")
    assert machine(part.code) == (183 if X86 else 62)
    assert struct.unpack_from("<H", part.code, 16)[0] == 3, "a shared library"
    assert b"convc_main\0" in bytes(part.code)
    with raises(ArtifactError, "m.so", "was compiled for", "the instruction set"):
        convc.load(tmp_path / "m.so")


def test_no_linker_for_another_family(monkeypatch: pytest.MonkeyPatch) -> None:
    target = parse_target("aarch64" if X86 else "x86-64-v2")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: None)
    with raises(ArtifactError, f"linking for {target.family}", "ld.lld", "pip install ziglang", "apt-get install"):
        linker(target.family, host().family)


def test_linkers_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a C compiler, a linker or zig links; without any of them the error says what to install."""
    family = host().family
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "ccache missing++")
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: None)
    with raises(ArtifactError, "g++, c++", "ld.lld, ld, zig", "pip install ziglang", "apt-get install g++"):
        linker(family, family)
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: name)
    assert linker(family, family)[:4] == [sys.executable, "-m", "ziglang", "cc"]
    for tool in ("ld", "ld.lld", "gcc", "ccache"):  # each is preferred to those before it
        (tmp_path / tool).touch(mode=0o755)
        assert linker(family, family)[0] == tool
    assert linker(family, family)[:2] == ["ccache", "missing++"]


def needs(found: object, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not found, reason=f"{package} is not installed")


LINKERS = [
    pytest.param("ld", "ld", marks=needs(shutil.which("ld"), "binutils")),
    pytest.param("ld.lld", "ld.lld", marks=needs(shutil.which("ld.lld"), "lld (apt-get install lld)")),
    pytest.param("ziglang", sys.executable, marks=[
        pytest.mark.slow, needs(find_spec("ziglang"), "zig (pip install ziglang)")
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("tool", "command"), LINKERS)
def test_a_linker_suffices(tool: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no C compiler, each of the linkers makes artifacts that run, with and without the thread pool."""
    (tmp_path / "bin").mkdir()
    if tool == command:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("CXX", "HOME", "XDG_CACHE_HOME"):  # a service may have no home
        monkeypatch.delenv(name, raising=False)
    assert linker(host().family, host().family)[0] == command
    for threads in (1, 2):
        model = network("cpu", threads=threads)
        model.save(tmp_path / "m.convc")
        np.testing.assert_array_equal(convc.load(tmp_path / "m.convc")(X), model(X))
    if tool != "ld":
        family = "aarch64" if X86 else "x86_64"
        network(*(["aarch64"] if X86 else ["x86-64-v2"])).save(tmp_path / "other.convc")
        (part,) = read_artifact(tmp_path / "other.convc")
        assert machine(part.code) == {"x86_64": 62, "aarch64": 183}[family]


# -- several in one artifact -------------------------------------------------------------------------------------------


@needs_x86
def test_the_best_of_several_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("x86-64-v2", "x86-64-v3")
    model.save(tmp_path / "m.so")
    parts = read_artifact(tmp_path / "m.so")
    assert [p.description.details["mcpu"] for p in parts] == ["x86-64-v2", "x86-64-v3"]
    assert (tmp_path / "m.so").stat().st_size < sum(len(p.code) + 20_000 for p in parts), "weights are there once"
    for able in X86_LEVELS[:2]:
        t = parse_target(able)
        if not host().lacks(t.family, t.features):
            monkeypatch.setattr(cpu_model, "host", lambda t=t: Host(t.family, t.mcpu, t.features))
            loaded = convc.load(tmp_path / "m.so")
            assert loaded.description.details["mcpu"] == able  # type: ignore[attr-defined]
            assert_close(loaded(X), network(able)(X), tolerance=(1e-6, 0.0))
            loaded.save(tmp_path / "again.so")
            assert (tmp_path / "again.so").read_bytes() == (tmp_path / "m.so").read_bytes()
    monkeypatch.setattr(cpu_model, "host", lambda: Host("aarch64", "neoverse-n1", frozenset(["neon"])))
    with raises(ArtifactError, "x86-64-v2 and needs", "x86-64-v3 and needs", "x86_64 (this is aarch64)"):
        convc.load(tmp_path / "m.so")


@needs_x86
def test_what_this_processor_lacks_is_named(tmp_path: Path) -> None:
    """The error names the feature that this processor lacks.

    The artifact needs one that no processor has, beside one that every processor has.
    """
    network("x86-64-v2").save(tmp_path / "m.so")
    (part,) = read_artifact(tmp_path / "m.so")
    details = {**part.description.details, "features": ["sse2", "avx9000", "amx-9"]}
    new = Part(replace(part.description, details=details), bytes(part.code), part.weights)
    write_artifact(tmp_path / "new.so", [new])
    with raises(ArtifactError, "lacks: amx-9, avx9000"):
        convc.load(tmp_path / "new.so")
    write_artifact(tmp_path / "both.so", [new, Part(part.description, bytes(part.code), part.weights)])
    np.testing.assert_array_equal(convc.load(tmp_path / "both.so")(X), network("x86-64-v2")(X))


# -- the same bytes, the same bits -------------------------------------------------------------------------------------

BUILD = """
import sys; sys.path.insert(0, {tests!r})
import convc
from support import small_models
from runtime.test_elsewhere import network
network("cpu").save("native.so")
convc.compile(small_models.resnet(1, 8), {target!r}, threads=2).save("resnet.so")
"""


def test_two_processes_build_the_same_bytes(tmp_path: Path) -> None:
    """Two processes build the same bytes.

    They differ in hash seed, folders, temporary folders, locale and time.
    """
    code = BUILD.format(tests=str(Path(__file__).parents[1]), target="x86-64-v2,x86-64-v3" if X86 else "aarch64")
    for name, seed, lang in (("a", "1", "C"), ("another folder", "77", "C.UTF-8")):
        temporary = tmp_path / name / "temporary files"
        temporary.mkdir(parents=True)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TMPDIR": str(temporary), "LC_ALL": lang}
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path / name, env=environment)
        assert not list(temporary.iterdir())
    for file in ("native.so", "resnet.so"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "another folder" / file).read_bytes(), file


def test_any_thread_count_gives_the_same_bits(tmp_path: Path) -> None:
    compiled(layers(), shapes={"x": X.shape}).save(tmp_path / "m.so")
    want = convc.load(tmp_path / "m.so", threads=1)(X).tobytes()
    for threads in (1, 2, 3, 5):
        loaded = convc.load(tmp_path / "m.so", threads=threads)
        assert all(loaded(X).tobytes() == want for _ in range(5))


def test_a_file_that_was_replaced_is_loaded_anew(tmp_path: Path) -> None:
    """A replaced file is loaded anew, although the dynamic loader knows files by name and would return the old code."""
    path, loaded = tmp_path / "m.so", []
    for scale in (1, 2, 3):
        net = nn.Conv2D(8, kernel_size=scale)
        model = convc.compile(net, shapes={"x": X.shape})
        model.save(path)
        loaded.append((convc.load(path), model(X)))
    for model, want in loaded:
        np.testing.assert_array_equal(model(X), want)
