"""Build ``convc-runtime``, a distribution that only runs compiled models: ``python packaging/runtime.py FOLDER``.

The wheel, which is written to the folder, holds ``convc/runtime`` and the few modules that it imports, from the same
tree as the whole package. Both distributions install the package ``convc``, and a machine needs only one of them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = ("convc/__init__.py", "convc/version.py", "convc/py.typed")
RECORDS = ("__init__.py", "errors.py", "dtypes.py", "shapes.py")
"""The modules of ``ir`` that the runtime imports."""
DEPENDENCIES = ("numpy", "ml-dtypes")
PROJECT = """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "convc-runtime"
version = "{version}"
description = "Runs what convc compiled: neither a compiler nor a framework is needed"
readme = "README.md"
license = "Apache-2.0"
license-files = ["LICENSE"]
requires-python = ">=3.10"
dependencies = [{dependencies}]

[tool.setuptools]
packages = ["convc", "convc.ir", "convc.runtime", "convc.runtime.cpu", "convc.runtime.cuda"]
package-data = {{ "convc" = ["py.typed"] }}
"""
README = """# convc-runtime

Runs models that convc compiled, for processors and for NVIDIA GPUs. It needs numpy
and ml_dtypes, and no compiler: `import convc; model = convc.load("model.convc"); y = model(x)`.
"""


def stage(folder: Path) -> None:
    """Copy the files of the distribution into a folder, and write its project file."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "convc/runtime", folder / "convc/runtime", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "convc/ir").mkdir()
    for name in RECORDS:
        shutil.copy(ROOT / "ir" / name, folder / "convc/ir" / name)
    shutil.copy(ROOT / "LICENSE", folder)
    (folder / "README.md").write_text(README, encoding="utf-8")
    whole = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = [re.search(rf'^  ("{name}[^"]*"),', whole, re.MULTILINE) for name in DEPENDENCIES]
    dependencies = ", ".join(m.group(1) for m in found if m)
    version = re.search(r'"(.*)"', (ROOT / "convc/version.py").read_text(encoding="utf-8").split("=")[1])
    assert version
    project = PROJECT.format(version=version.group(1), dependencies=dependencies)
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")


def main(out: Path) -> None:
    """Build the wheel into a folder."""
    with tempfile.TemporaryDirectory(prefix="convc-") as folder:
        stage(Path(folder))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), folder]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
