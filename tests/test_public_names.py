"""What ``dir`` and ``help`` show of the package, in a new process, where no public name was used before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import convc
from convc import nn

SCRIPT = """
import json, pydoc, {name} as package
print(json.dumps([dir(package), pydoc.plain(pydoc.render_doc(package))]))
"""


@pytest.mark.parametrize(("name", "package"), [("convc", convc), ("convc.nn", nn)])
def test_dir_and_help_show_the_public_names(name: str, package: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(name=name)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    shown, text = json.loads(done.stdout)
    public = package.__all__  # type: ignore[attr-defined]
    assert shown == sorted(public)
    if name == "convc":
        first = text[: text.index("PACKAGE CONTENTS")]
        assert "convc.compile(" in first
        assert "convc.load(" in first
        for each in (
            "compile(source",
            "load(path",
            "load_onnx(source",
            "class Model(",
            "class Graph(",
            "class Limits(",
        ):
            assert each in text
