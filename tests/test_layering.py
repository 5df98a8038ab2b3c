"""Who imports whom: ``ir`` neither TVM nor what lies above it, TVM only in ``backends``, no circles."""

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
        if not (package == "convc" and parts[0] in ("ir", "backends")):  # inside convc when it is installed
            yield name, path


MODULES = {
    name: path
    for package in (convc, convc.ir, convc.backends)
    for name, path in _modules(package.__name__, Path(str(package.__file__)).parent)
}


def _imports(name: str, path: Path, typing: bool = False) -> Iterator[str]:
    """The modules that a module imports at run time, wherever the statement stands; our own ones by their full names.

    With ``typing``, those that it imports for type checkers only as well.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(filter(None, (base, node.module)))
            names = [f"{origin}.{a.name}" for a in node.names]
            yield from (n for n in names if n in MODULES)
            if not all(n in MODULES for n in names):
                yield origin
        todo += ast.iter_child_nodes(node)


IMPORTS = {name: set(_imports(name, path)) for name, path in MODULES.items()}


def test_the_walk_sees_all_packages() -> None:
    assert {"convc.cli.run", "convc.ir.ops.conv", "convc.backends.cpu.schedules.fallback"} <= set(MODULES)
    assert "tvm" in IMPORTS["convc.backends.cpu.build"]
    assert "convc.ir.op" in IMPORTS["convc.ir.ops.conv"]
    assert "convc.backends.cpu.pipeline" in IMPORTS["convc.compiler"]


def test_only_backends_import_tvm() -> None:
    loads = {name for name, found in IMPORTS.items() if any(i.split(".")[0] in ("tvm", "tvm_ffi") for i in found)}
    assert loads
    assert {name for name in loads if not name.startswith("convc.backends")} == set()


def test_ir_imports_nothing_above_it() -> None:
    known = {"numpy", "networkx", "onnx", "ml_dtypes", *sys.stdlib_module_names}
    for name, found in IMPORTS.items():
        if name.startswith("convc.ir"):
            strangers = {i for i in found if i.split(".")[0] not in known and not i.startswith("convc.ir")}
            assert strangers == set(), name


def test_backends_import_only_ir() -> None:
    for name, found in IMPORTS.items():
        if name.startswith("convc.backends"):
            ours = {i for i in found if i.split(".")[0] == "convc"}
            assert {i for i in ours if not i.startswith(("convc.ir", "convc.backends"))} == set(), name


def test_no_circles() -> None:
    g = nx.DiGraph((name, i) for name, found in IMPORTS.items() for i in found if i in MODULES and i != name)
    assert list(nx.simple_cycles(g, length_bound=8)) == []
    assert nx.is_directed_acyclic_graph(g)


@pytest.mark.parametrize("package", ["convc.ir", "convc.onnx", "convc.nn"])
def test_no_circles_of_types(package: str) -> None:
    ours = {name for name in MODULES if name.startswith(package)}
    g = nx.DiGraph((n, i) for n in ours for i in _imports(n, MODULES[n], typing=True) if i in ours and i != n)
    assert g.edges
    assert [c for c in nx.strongly_connected_components(g) if len(c) > 1] == []


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
    "code",
    [
        "import convc",
        "import convc; convc.save_onnx(convc.load_onnx({model!r}), {model!r} + '2')",
        "from convc.cli import main; assert main(['inspect', {model!r}]) == 0",
        "from convc.cli import main; assert main(['export', {model!r}, '-o', {model!r} + '3']) == 0",
        "import convc.nn",
    ],
)
def test_tvm_is_not_loaded(model: Path, code: str) -> None:
    check = "; import sys; assert not {'tvm', 'tvm_ffi', 'convc.backends'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code.format(model=str(model)) + check], check=True, capture_output=True)


def test_the_check_would_notice() -> None:
    code = "import convc; convc.compile; import sys; sys.exit('tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
