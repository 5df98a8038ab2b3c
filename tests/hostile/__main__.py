"""Runs the mutation fuzzer: ``python -m hostile --mutants 100000`` in ``tests/``.

Prints the mutants of all kinds that failed; ``--save`` keeps them, shrunk.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .run import DEFAULT_SPLIT, fuzz, report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hostile", description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000, help="how many (default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--kind", choices=DEFAULT_SPLIT, help="only this kind")
    parser.add_argument("--compile-every", type=int, default=0, metavar="N", help="compile every N-th good mutant")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--save", type=Path, help="a folder for mutants that fail, shrunk")
    args = parser.parse_args()
    found = fuzz(args.mutants, args.start, args.kind, args.jobs, args.compile_every, print)
    print(report(found, args.save))
    return int(bool(found.failures))


if __name__ == "__main__":
    raise SystemExit(main())
