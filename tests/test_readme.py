"""A newcomer's path: every block of the README and of ``docs/``, and every example of each ``--help``, runs as printed.

What takes long (GPU code, timing, tuning, installing) runs among the slow tests only, where bash gets the blocks as
they are printed.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest
from support.commands import Capture, run

from convc.cli import COMMANDS, make_parser

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))]
SLOW = ("--target", "--shape x=8", "convc bench", "convc tune", "resnet18", "gpu.convc", "--dump-dir", "stages/")
"""What a command contains that takes more than a second or two, or that follows such a command."""


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The code blocks of a page: language, text, and the file as which the paragraph before says to write it."""
    found = []
    parts = re.split(r"^```(.*)\n", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    for before, opening, text in zip(parts[::4], parts[1::4], parts[2::4], strict=False):
        name = re.search(r"[Ww]rite this file as\s`(\S+)`", before)
        found.append((opening.partition(" ")[0], text, name[1] if name else ""))
    return found


def commands(text: str) -> list[str]:
    """The commands of a block, without their comments and with continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [c for line in lines if (c := re.sub(r"\s+#.*", "", line).strip())]


def examples(command: str) -> list[str]:
    """The example commands that the help of a command ends with."""
    parser = make_parser(COMMANDS)
    text = parser.format_help() if not command else _help(command)
    tail = re.split(r"^examples?\b.*:$", text, flags=re.MULTILINE)[1]
    return [c for line in commands(tail) for c in line.split(" && ")]


def _help(command: str) -> str:
    action = next(a for a in make_parser((command,))._actions if a.choices and command in a.choices)
    text: str = action.choices[command].format_help()  # type: ignore[index, call-overload]
    return text


def words(command: str) -> list[str]:
    """A command as words, with the names of files that match a pattern in place of it, as a shell gives them."""
    return [f for w in shlex.split(command) for f in (sorted(glob(w)) if "*" in w else [w])]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: a folder with a clone's examples, where Python finds modules as a script there does."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def is_slow(command: str) -> bool:
    return any(part in command for part in SLOW)


@pytest.mark.parametrize("page", PAGES)
def test_pages(page: str, clone: Path, capsys: Capture) -> None:
    """The Python of a page runs, and so do the quick ones of its commands, in order."""
    for language, text, file in blocks(page):
        if file:
            Path(file).write_text(text)
        elif language == "python" and "torch" not in text:  # what needs a GPU is in a test of its own
            exec(compile(text, f"{page}: {text.splitlines()[0]}", "exec"), {"__name__": "__main__"})
        for command in commands(text) if language == "sh" else ():
            if "convc" in (w := words(command.rpartition("&& .venv/bin/")[2]))[:1] and not is_slow(command):
                assert run(*w[1:]) == 0, capsys.readouterr().err
    shown = [(text, p) for _, text, _ in blocks(page) for p in re.findall(r"\(([\w/]+\.md)\)", text)]
    assert all((ROOT / p).exists() for _, p in shown)


def test_examples_of_help(clone: Path, capsys: Capture) -> None:
    """The quick ones of the examples run, those of ``convc --help`` and of each command in turn."""
    for command in ("", *COMMANDS):
        for example in (found := examples(command)):
            assert example.startswith("convc ")
            assert is_slow(example) or run(*words(example)[1:]) == 0, capsys.readouterr().err
        assert found, command


def test_installing_needs_nothing_that_is_not_published() -> None:
    """An install line of convc is for a clone, and names extras that exist."""
    extras = set(re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE))
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*"), ROOT / "packaging/runtime.py"]
    files += [p for folder in ("convc", "ir", "backends") for p in (ROOT / folder).rglob("*.py")]
    for text in (f.read_text(encoding="utf-8") for f in files if f.suffix in (".md", ".py")):
        assert not re.search(r"pip install [^\n`;]*['\" ]convc(\[|-runtime\b|['\"`]|$)", text, re.MULTILINE)
        assert set(re.findall(r"'\.\[(\w+)\]'", text)) <= extras


# -- as printed --------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """A copy of the clone with an environment that is this test's own Python, in which pip changes nothing."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=ignored)
    tools = clone / ".venv/bin"
    tools.mkdir(parents=True)
    for name, body in {
        "python": f'case "$*" in "-m pytest"*|"-m venv .venv") ;; *) exec {sys.executable} "$@";; esac',
        "python3": 'exec python "$@"',
        "convc": 'exec python -m convc "$@"',
        "pip": 'echo "$@" >> pip.log',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\n")
        (tools / name).chmod((tools / name).stat().st_mode | stat.S_IXUSR)
    (tools / "activate").write_text("# this environment is active already\n")
    return clone


def bash(text: str, clone: Path) -> str:
    environment = os.environ | {
        "PATH": f"{clone / '.venv/bin'}:{os.environ['PATH']}",
        "CONVC_CACHE": str(clone / "cache"),
        "PYTHONPATH": str(clone),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_readme_as_printed(shell: Path) -> None:
    """All blocks, in order. Output that is shown is what comes, but for numbers and the machine's features."""
    for language, text, file in blocks("README.md"):
        if file:
            (shell / file).write_text(text)
        elif language == "python" and "torch" not in text:
            (shell / "block.py").write_text(text)
            bash("python block.py", shell)
        elif language == "sh":
            bash(text, shell)
        elif "$ " in text:
            made = bash("\n".join(line[2:] for line in text.splitlines() if line.startswith("$ ")), shell)
            want = [line for line in text.splitlines() if line and not line.startswith("$ ")]
            got = [line for line in made.splitlines() if line][-len(want) :]
            for w, g in zip(want, got, strict=True):
                if not w.startswith(("  needs:", "  here:", "  processor:")):
                    assert re.sub(r"[\d.,]+", "0", w) == re.sub(r"[\d.,]+", "0", g)
    (gpu,) = [text for language, text, _ in blocks("README.md") if language == "python" and "torch" in text]
    (shell / "block.py").write_text(gpu[: gpu.index("x = torch")].replace("import torch\n", "") + "print(model)\n")
    assert "CompiledModel" in bash("python block.py", shell)


@pytest.mark.slow
def test_examples_of_help_as_printed(shell: Path) -> None:
    bash("\n".join(example for command in ("", *COMMANDS) for example in examples(command)), shell)
