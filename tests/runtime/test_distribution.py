"""The distribution that only runs models holds all that running takes, and says what it lacks."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import small_models
from support.compiling import compiled

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "packaging" / "runtime.py"


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the distribution installs."""
    spec = importlib.util.spec_from_file_location("runtime_distribution", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("staged")
    module.stage(folder)
    return folder


def run(staged: Path, code: str, *arguments: str) -> str:
    """What a process prints that finds the distribution, numpy, and no other convc."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (staged, Path(np.__file__).parents[1])))}
    check = f"import convc; assert convc.__file__.startswith({str(staged)!r}), convc.__file__\n"
    done = subprocess.run(
        [sys.executable, "-S", "-c", check + code, *arguments],  # no hooks of packages that are installed
        check=False, capture_output=True, text=True, env=environment, cwd=staged,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_runs_without_the_compiler(staged: Path, tmp_path: Path) -> None:
    model = compiled(small_models.resnet(1, 8), threads=2)
    model.save(tmp_path / "m.convc")
    x = np.random.default_rng(0).standard_normal(model.inputs[0].sizes).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    code = """
import sys, numpy as np
folder = sys.argv[1]
np.save(folder + "/y.npy", convc.load(folder + "/m.convc")(np.load(folder + "/x.npy")))
strangers = {m for m in sys.modules if m.split(".")[0] in ("tvm", "tvm_ffi", "onnx", "networkx")}
assert not strangers, strangers
"""
    run(staged, code, str(tmp_path))
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model(x))


@pytest.mark.parametrize("name", ["compile", "load_onnx", "nn", "Graph"])
def test_what_is_missing_is_named(staged: Path, name: str) -> None:
    code = f"""
try:
    convc.{name}
except ImportError as e:
    print(e)
"""
    assert f"convc.{name} is not part of convc-runtime" in run(staged, code)


def test_both_are_of_one_version(staged: Path) -> None:
    import convc

    assert f'version = "{convc.__version__}"' in (staged / "pyproject.toml").read_text()
    assert '"numpy>=' in (staged / "pyproject.toml").read_text()
