"""Imports between packages, which are restricted by rules, and the modules that using the package loads.

Imports for type checkers count too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import onnx
import pytest
from onnx import helper
from support import models

import convc
import convc.backends
import convc.ir


def _modules(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join((package, *parts)).removesuffix(".__init__")
        if not (package == "convc" and parts[0] in ("ir", "backends")):  # these lie inside convc when it is installed
            yield name, path


MODULES = {
    name: path
    for package in (convc, convc.ir, convc.backends)
    for name, path in _modules(package.__name__, Path(str(package.__file__)).parent)
}


def _imports(name: str, path: Path) -> Iterator[str]:
    """The names of the modules that a module imports anywhere in its text, with full names for convc's own.

    Imports for type checkers are included.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            names = [f"{origin}.{a.name}" for a in node.names]
            yield from (n for n in names if n in MODULES)
            if not all(n in MODULES for n in names):
                yield origin


IMPORTS = {name: set(_imports(name, path)) for name, path in MODULES.items()}

RECORDS = ("convc.ir.errors", "convc.ir.dtypes", "convc.ir.shapes")
SHARED = tuple(
    name
    for name in MODULES
    if name.startswith("convc.backends") and not name.startswith(("convc.backends.cpu", "convc.backends.cuda"))
)
"""The packages that belong to no backend."""
RULES = {
    "convc.runtime": ("numpy", "ml_dtypes", *RECORDS, "convc.version", "convc.runtime"),
    "convc.runtime.cpu": ("numpy", *RECORDS, "convc.runtime", "!convc.runtime.cuda"),
    "convc.runtime.cuda": ("numpy", *RECORDS, "convc.runtime", "!convc.runtime.cpu"),
    "convc.ir": ("numpy", "ml_dtypes", "networkx", "onnx", "convc.ir"),
    "convc.onnx": ("numpy", "onnx", "google", "convc.ir", "convc.onnx", "convc.files", "convc.runtime.files",
                   "convc.runtime.foreign"),
    "convc.nn": ("numpy", "safetensors", "convc.ir", "convc.nn", "convc.files", "convc.runtime.files"),
    **dict.fromkeys(SHARED, ("numpy", "tvm", "tvm_ffi", "convc.ir", "convc.runtime", "convc.version", *SHARED)),
    "convc.backends.cpu": (
        "numpy", "tvm", "tvm_ffi", "convc.ir", "convc.runtime", "!convc.runtime.cuda", *SHARED, "convc.backends.cpu",
    ),
    "convc.backends.cuda": (
        "numpy", "tvm", "tvm_ffi", "cuda", "convc.ir", "convc.runtime", "!convc.runtime.cpu", *SHARED,
        "convc.backends.cuda",
    ),
}  # fmt: skip
"""The modules that those of a package may import, besides the standard library.

They must not import what begins with ``!``.
"""
ABOUT_ONE_TARGET = {"convc.cli.bench", "convc.cli.tune"}
"""The commands that measure a processor. All other code above the backends names no backend."""


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def _rule(name: str) -> tuple[str, ...]:
    """The rule of the innermost package that has one."""
    parts = name.split(".")
    return next((RULES[p] for i in range(len(parts), 0, -1) if (p := ".".join(parts[:i])) in RULES), ())


def test_the_walk_sees_all_packages() -> None:
    assert {"convc.cli.run", "convc.ir.ops.conv", "convc.backends.cpu.schedules.fallback"} <= set(MODULES)
    assert "tvm" in IMPORTS["convc.backends.cpu.codegen"]
    assert "convc.ir.op" in IMPORTS["convc.ir.ops.conv"]
    assert "convc.backends.cpu.choices" in IMPORTS["convc.backends.cpu.backend"], "for type checkers"


@pytest.mark.parametrize("name", [name for name in MODULES if _rule(name)])
def test_a_module_imports_what_its_package_may(name: str) -> None:
    rule = _rule(name)
    may, not_may = tuple(p for p in rule if p[0] != "!"), tuple(p[1:] for p in rule if p[0] == "!")
    others = {i for i in IMPORTS[name] if i.split(".")[0] not in sys.stdlib_module_names and i != "__future__"}
    assert {i for i in others if not _within(i, may) or _within(i, not_may)} == set()


def test_no_other_module_knows_a_target_or_tvm() -> None:
    for name, found in IMPORTS.items():
        if not name.startswith("convc.backends"):
            assert {i for i in found if _within(i, ("tvm", "tvm_ffi"))} == set(), name
            if name not in ABOUT_ONE_TARGET:
                assert {i for i in found if _within(i, ("convc.backends.cpu", "convc.backends.cuda"))} == set(), name


def test_no_circles() -> None:
    """The modules have no circular imports, where imports for type checkers count."""
    g = nx.DiGraph((name, i) for name, found in IMPORTS.items() for i in found if i in MODULES and i != name)
    g.remove_node("convc")  # it names all modules, and imports each when it is used
    assert g.number_of_edges() > 1000
    assert [sorted(c) for c in nx.strongly_connected_components(g) if len(c) > 1] == []


@pytest.mark.parametrize("module", ["convc.ir.text", "convc.ir.pipeline", "convc.ir.evaluate"])
def test_ir_loads_no_onnx(module: str) -> None:
    code = f"import {module}, sys; assert 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    node = helper.make_node("Relu", ["x"], ["y"])
    proto = models.model([node], {"x": [2]}, {"y": [2]}, opset=22)
    onnx.save(proto, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import convc; dir(convc)", "tvm onnx networkx numpy"),
        ("import convc; convc.save_onnx(convc.load_onnx({model!r}), {model!r} + '2')", "tvm"),
        ("from convc.cli import main; assert main(['inspect', {model!r}]) == 0", "tvm"),
        ("from convc.cli import main; assert main(['export', {model!r}, '-o', {model!r} + '3']) == 0", "tvm"),
        ("import convc.nn", "tvm onnx"),
        ("import convc; convc.load({saved!r})([1, 2])", "tvm onnx networkx"),
        ("from convc.cli import main; assert main(['inspect', {saved!r}]) == 0", "tvm"),
    ],
)
def test_what_is_not_used_is_not_loaded(model: Path, code: str, absent: str) -> None:
    saved = model.with_suffix(".convc")
    convc.compile(model, threads=1).save(saved)
    check = f"; import sys; assert not {set(absent.replace('tvm', 'tvm tvm_ffi').split())} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code.format(model=str(model), saved=str(saved)) + check], check=True, capture_output=True
    )


def test_the_check_would_notice() -> None:
    code = "import convc; convc.compile; import convc.backends.cpu.codegen; import sys; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
