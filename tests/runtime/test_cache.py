"""The cache of compiled models on disk.

Other processes find its entries, its size is bounded, and damaged entries are detected.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.malformed import raises
from support.tolerances import assert_close

import convc.cache
from convc import CompileError
from convc.backends import identity
from convc.backends.cpu import build
from convc.backends.identity import compiler
from convc.backends.store import NAMES, Store, store
from convc.cache import cache_key, keep, load
from convc.ir.builder import Builder
from convc.ir.graph import Graph
from convc.ir.op import REGISTRY, f32
from convc.ir.ops._elementwise import Elementwise
from convc.ir.ops.binary import Add
from convc.ir.ops.unary import Abs, Relu
from convc.runtime.artifact import read_artifact, write_artifact
from convc.runtime.description import Part
from convc.runtime.files import cache_folder

X = np.linspace(-1, 1, 6, dtype=np.float32)


def network(value: float = 1.0, op: Any = None, size: int | str = "n") -> Graph:
    b = Builder("net")
    x = b.emit(Add(), b.input("x", f32[4].with_shape([size])), b.constant(np.array([value], np.float32)))
    return b.finish([b.emit(op or Relu(), x)], ["y"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled models."""
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path))
    return tmp_path / "compiled"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows with each compilation."""
    found: list[int] = []
    original = build.build

    def counted(*arguments: Any, **options: Any) -> Any:
        found.append(len(found))
        return original(*arguments, **options)

    monkeypatch.setattr(build, "build", counted)
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.convc"))


def test_found_again(folder: Path, compilations: list[int]) -> None:
    want = convc.compile(network())(X)
    np.testing.assert_array_equal(convc.compile(network())(X), want)
    assert len(compilations) == len(files(folder)) == 1


def test_found_again_by_another_process(folder: Path, tmp_path: Path) -> None:
    want = convc.compile(network())(X)
    (file,) = files(folder)
    written = file.stat().st_ino
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import convc.backends.cpu.build, numpy as np
from runtime.test_cache import X, network
def build(*_, **__): raise AssertionError("it is compiled again")
convc.backends.cpu.build.build = build
np.save({str(tmp_path / "y.npy")!r}, convc.compile(network())(X))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), want)
    assert file.stat().st_ino == written, "what was found is not written again"


DIFFERENT: dict[str, tuple[Any, dict[str, Any]]] = {
    "weight": (network(2.0), {}),
    "op": (network(op=Abs()), {}),
    "precision": (network(), {"precision": "strict"}),
    "threads": (network(), {"threads": 1}),
    "target": (network(), {"target": "x86-64-v2"}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_compiled(name: str, folder: Path, compilations: list[int]) -> None:
    convc.compile(network(), threads=2)(X)
    graph, options = DIFFERENT[name]
    made = convc.compile(graph, **({"threads": 2} | options))(X)
    assert len(compilations) == len(files(folder)) == 2
    assert_close(made, convc.compile(graph, shapes={"x": X.shape})(X), tolerance=(1e-6, 0.0))


def test_sizes_that_are_fixed_are_compiled(folder: Path, compilations: list[int]) -> None:
    model = convc.compile(network())
    model(X)
    model(X[:3])
    assert len(files(folder)) == 1
    convc.compile(network(), shapes={"x": (3,)}, cache=True)
    assert len(files(folder)) == 2


@pytest.mark.parametrize("what", ["__version__", "source", "package"])
def test_another_compiler_compiles_anew(
    what: str, folder: Path, compilations: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    convc.compile(network())(X)
    compiler.cache_clear()
    if what == "__version__":
        monkeypatch.setattr(identity, "__version__", "99.0")
    elif what == "package":
        (tmp_path / "Apache_TVM-99.0.dist-info").mkdir()
        monkeypatch.syspath_prepend(tmp_path)
    else:
        read = Path.read_bytes
        monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + b"#" * (self.name == "tiles.py"))
    convc.compile(network())(X)
    compiler.cache_clear()
    assert len(compilations) == 2


def test_tuning_choices_are_part_of_the_key() -> None:
    graph = network(size=6)
    assert cache_key(graph, {"target": {"a": 1}}) == cache_key(graph, {"target": {"a": 1}})
    assert cache_key(graph, {"target": {"a": 1}}) != cache_key(graph, {"target": {"a": 2}})


@pytest.mark.parametrize("how", ["flipped", "torn", "empty", "text", "folder", "foreign"])
def test_a_file_that_is_not_sound_is_made_anew(how: str, folder: Path, compilations: list[int], tmp_path: Path) -> None:
    want = convc.compile(network())(X)
    (file,) = files(folder)
    whole = file.read_bytes()
    if how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "foreign":  # a valid artifact that was not stored under this name
        convc.compile(network(5.0), shapes={"x": X.shape}).save(file)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        file.write_bytes({"flipped": flipped, "torn": whole[:-100], "empty": b"", "text": b"hello"}[how])
    before = len(compilations)
    if how == "folder":
        with pytest.warns(UserWarning, match="keeps nothing that it compiled"):
            np.testing.assert_array_equal(convc.compile(network())(X), want)
        return
    np.testing.assert_array_equal(convc.compile(network())(X), want)
    assert len(compilations) == before + 1
    assert file.read_bytes() == whole


def test_an_artifact_made_by_way_of_the_cache_is_the_same(folder: Path, tmp_path: Path) -> None:
    for name, cache in (("plain", False), ("stored", True), ("found", True)):
        convc.compile(network(size=6), cache=cache).save(tmp_path / name)
    assert (tmp_path / "stored").read_bytes() == (tmp_path / "plain").read_bytes()
    assert (tmp_path / "found").read_bytes() == (tmp_path / "plain").read_bytes()


def test_static_models_only_when_asked(folder: Path, compilations: list[int]) -> None:
    for cache in (None, False):
        convc.compile(network(size=6), cache=cache)
    assert not files(folder)
    for _ in range(2):
        convc.compile(network(size=6), cache=True)
    assert len(compilations) == 3


@pytest.mark.parametrize(
    ("value", "found"),
    [(None, "/home/me/.cache/convc"), ("~/models", "/home/me/models"), ("./off", "off"), ("/tmp/0", "/tmp/0")]
    + [(word, None) for word in ("", " ", "off", "OFF", "0", "no", "false", "None")],
)
def test_the_folder(value: str | None, found: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that means no turns the cache off, and makes no folder of this name."""
    monkeypatch.setenv("HOME", "/home/me")
    if value is None:
        monkeypatch.delenv("CONVC_CACHE")
    else:
        monkeypatch.setenv("CONVC_CACHE", value)
    assert cache_folder() == (found and Path(found))


def test_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder, as in a container, gets no folder named ~."""
    monkeypatch.setenv("CONVC_CACHE", "~no such user/convc")
    with pytest.warns(UserWarning, match="there is no home folder for '~no such user/convc'"):
        assert cache_folder() is None


@pytest.mark.parametrize(("why", "match"), [("owner", "belongs to another user"), ("mode", "every user may write")])
def test_a_folder_that_others_write_to_is_not_used(
    why: str, match: str, folder: Path, compilations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are code, so that the owner could run code as this user."""
    want = convc.compile(network())(X)
    before = [p.stat().st_mtime_ns for p in sorted(folder.iterdir())]
    if why == "mode":
        folder.chmod(0o777)
    elif os.geteuid() == 0:
        os.chown(folder, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.warns(UserWarning, match=match):
        np.testing.assert_array_equal(convc.compile(network())(X), want)
    assert len(compilations) == 2
    assert [p.stat().st_mtime_ns for p in sorted(folder.iterdir())] == before


def test_others_may_not_write_whatever_the_umask(folder: Path) -> None:
    before = os.umask(0)
    try:
        convc.compile(network())(X)
    finally:
        os.umask(before)
    assert [p for p in [folder.parent, folder, *folder.iterdir()] if p.stat().st_mode & 0o002] == []
    assert len(files(folder)) == 1


def test_a_source_that_changes_meanwhile(
    folder: Path, compilations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has loaded the old source must not keep its code as that of the new one."""
    convc.compile(network())(X)
    times = identity._times()
    monkeypatch.setattr(identity, "_times", lambda: times | {next(iter(times)): 0})
    with pytest.warns(UserWarning, match="source has changed since this process loaded it"):
        convc.compile(network())(X)
    assert len(compilations) == 2


def test_a_source_that_changed_before_the_cache_was_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity.is_current()
    identity._times_at_first.cache_clear()
    monkeypatch.setattr(identity, "LOADED", 0)
    assert not identity.is_current()
    monkeypatch.undo()
    identity._times_at_first.cache_clear()
    assert identity.is_current()


def test_files_of_editors_are_no_source(tmp_path: Path) -> None:
    (tmp_path / ".#tiles.py").symlink_to("me@here.1234")  # what Emacs makes while a file is edited
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "tiles.py").write_text("")
    assert [path for path, _ in identity._sources(str(tmp_path))] == [str(tmp_path / "inner" / "tiles.py")]


@pytest.mark.parametrize("off", ["cache=False", "no folder", "dump"])
def test_switched_off(off: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if off == "no folder":
        monkeypatch.setenv("CONVC_CACHE", "")
    dump = tmp_path / "stages" if off == "dump" else None
    convc.compile(network(), cache=False if off == "cache=False" else None, dump_dir=dump)(X)
    assert not files(folder)
    assert folder.exists() == (off == "dump")  # the kernels of a dumped model are kept
    assert dump is None or (dump / "00_input.txt").exists()


def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CONVC_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="convc keeps nothing that it compiled in .*Not a directory"):
        assert convc.compile(network())(X).shape == X.shape


def test_a_limit_that_is_no_number(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVC_CACHE_BYTES", "4 parsecs")
    with raises(CompileError, "CONVC_CACHE_BYTES is '4 parsecs'", "number of bytes", "4G"):
        convc.compile(network())(X)


# -- the bound ---------------------------------------------------------------------------------------------------------


def test_the_oldest_are_deleted(folder: Path, compilations: list[int]) -> None:
    """Whatever the files are, those that were used longest ago go first."""

    def compiled(size: int) -> None:
        convc.compile(network(size=size), cache=True)

    compiled(2)
    compiled(3)
    whole = sum(p.stat().st_size for p in folder.iterdir())
    time.sleep(0.01)
    compiled(2)  # is used again, so that the other is deleted
    two, three = sorted(files(folder), key=lambda p: -p.stat().st_mtime_ns)
    Store(folder, whole).write({"new": [bytes(whole - two.stat().st_size)]})
    assert two.exists()
    assert not three.exists()
    assert len(compilations) == 2
    compiled(2)
    assert len(compilations) == 2
    compiled(3)
    assert len(compilations) == 3


def test_files_of_others_are_left_alone(folder: Path) -> None:
    """A folder of the name may have been there before, and hold what has nothing to do with convc."""
    convc.compile(network())(X)
    (folder / "mine.o").write_bytes(bytes(5000))
    (folder / f"{0:064x}.convc").mkdir()
    (folder / "folder").mkdir()
    ours = {p for p in folder.iterdir() if NAMES.fullmatch(p.name) and p.is_file()}
    assert len(ours) >= 3
    Store(folder, 1000).write({"new": [b"x" * 1000]})
    assert {p.name for p in folder.iterdir()} == {"mine.o", f"{0:064x}.convc", "folder", "lock", "new"}


def test_unfinished_files_count(folder: Path) -> None:
    """Processes that are killed again and again while they write do not exceed the bound."""
    folder.mkdir()
    (folder / ".convc-0123.part").write_bytes(bytes(600))
    cache = Store(folder, 1000)
    cache.write({"a": [bytes(500)]})
    assert not (folder / "a").exists()
    cache.write({"a": [bytes(400)]})
    assert (folder / "a").exists()


def test_the_lock_is_free_although_a_fork_has_it_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock, copies = fcntl.flock, []

    def forking(f: Any, how: int) -> None:
        lock(f, how)
        if not how & fcntl.LOCK_UN:
            copies.append(os.dup(f.fileno()))  # as a process has that was forked now by another thread

    monkeypatch.setattr(fcntl, "flock", forking)
    monkeypatch.setattr("convc.backends.store.PATIENCE", 0.0)
    for name in ("a", "b"):
        Store(folder, 1000).write({name: [b"x"]})
        assert (folder / name).exists()
    for copy in copies:
        os.close(copy)


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    cache = Store(tmp_path, 1000)
    cache.keep({"a": b"some content"})
    assert cache.read("a") == b"some content"
    whole = cache.path("a").read_bytes()
    for i in range(len(whole)):
        cache.path("a").write_bytes(whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :])
        assert cache.read("a") is None
        cache.path("a").write_bytes(whole[:i])
        assert cache.read("a") is None
    cache.path("b").write_bytes(whole)
    assert cache.read("b") is None, "it was written under another name"


def test_what_is_larger_than_the_bound_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVC_CACHE_BYTES", "1000")
    assert convc.compile(network())(X).shape == X.shape
    assert not folder.exists()


def test_what_a_dead_process_left_is_removed(folder: Path) -> None:
    folder.mkdir()
    for name, age in ((".convc-old.part", 7200), (".convc-new.part", 0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    convc.compile(network())(X)
    assert [p.name for p in folder.glob(".*")] == [".convc-new.part"]


WRITER = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
import convc
from convc.backends.store import Store
from convc.cache import keep, load
from runtime.test_cache import network
cache, total = Store(Path({folder!r}), {limit}), 0
model = convc.compile(network(size=6))
for i in range(40):
    key = f"{{i * 7919 % 15:064x}}"
    keep(cache, key, model)
    found = load(cache, key, None)  # another process may have deleted it, and then there is none
    assert found is None or found.inputs == model.inputs
    total = max(total, sum(p.stat().st_size for p in cache.folder.glob("*.convc") if p.exists()))
print(total)
"""


def test_two_processes_share_one_folder_within_its_bound(folder: Path, tmp_path: Path) -> None:
    model = convc.compile(network(size=6))
    keep(Store(folder, 1 << 30), "0" * 64, model)
    size = files(folder)[0].stat().st_size
    limit = int(5.5 * size)
    code = WRITER.format(tests=str(Path(__file__).parents[1]), folder=str(folder), limit=limit)
    both = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    seen = [int(p.communicate()[0]) for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert 0 < max(seen) <= limit
    assert len(files(folder)) == 5
    for file in files(folder):
        (part,) = read_artifact(file)
        assert part.description.key == file.stem
    assert not list(folder.glob(".*.part"))


def test_a_part_of_another_version_is_foreign(folder: Path, compilations: list[int]) -> None:
    convc.compile(network())(X)
    (file,) = files(folder)
    (part,) = read_artifact(file)
    write_artifact(file, [Part(replace(part.description, key="0" * 64), bytes(part.code), part.weights)])
    cache = store()
    assert cache is not None
    assert load(cache, file.stem, None) is None


def scaled(factor: float) -> Any:
    """An op from outside, whose class does not tell the factor."""

    @dataclass(frozen=True)
    class Scaled(Elementwise):
        name = "own_scaled"

        def scalar(self, k: Any, *xs: Any) -> Any:
            return xs[0] * k.like(factor, xs[0])

    return Scaled()


def test_what_an_op_from_outside_computes_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may depend on anything, here on a variable around the class, which no key covers."""
    for factor in (2, 3):
        model = convc.compile(network(op=scaled(factor)), cache=True)
        assert model(X[:3]).tolist() == ((X[:3] + 1) * np.float32(factor)).tolist()
    del REGISTRY["own_scaled"]
    assert {p.name.split("_")[1] for p in folder.glob("*.o")} == {"program"}
    assert not files(folder)


@pytest.mark.parametrize(
    ("text", "want"), [("123", 123), ("4G", 4 << 30), ("4 GiB", 4 << 30), ("0.5m", 1 << 19), ("2TB", 2 << 40), ("0", 0)]
)
def test_a_limit_has_units(folder: Path, text: str, want: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVC_CACHE_BYTES", text)
    cache = store()
    assert cache is not None
    assert cache.limit == want
