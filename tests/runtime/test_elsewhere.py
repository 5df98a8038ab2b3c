"""Artifacts for other processors and for several of them, and reproducible builds."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.compiling import compiled
from support.malformed import raises
from support.tolerances import assert_close

import convc
from convc import ArtifactError, CompileError, DeviceError, nn
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


def test_machine_code_for_another_family() -> None:
    other = "neoverse-n1" if X86 else "x86-64-v3"
    model = network(other)
    assert machine(model.machine_code.library) == (183 if X86 else 62)
    with raises(DeviceError, f"compiled for {other}", "lacks", "save it"):
        model(X)


def test_an_artifact_for_another_family(tmp_path: Path) -> None:
    model = network("neoverse-n1" if X86 else "x86-64-v3")
    model.save(tmp_path / "m.so")
    (part,) = read_artifact(tmp_path / "m.so")
    assert machine(part.code) == (183 if X86 else 62)
    assert struct.unpack_from("<H", part.code, 16)[0] == 3, "a shared library"
    assert b"convc_run\0" in bytes(part.code)
    with raises(ArtifactError, "m.so", "was compiled for", "the instruction set"):
        convc.load(tmp_path / "m.so")


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
