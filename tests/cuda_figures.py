"""Reports what ptxas says of every kernel of some networks.

``python tests/cuda_figures.py MODEL.onnx... [--arch sm_75,sm_80,sm_90] [--precision fp32,tf32,fp16]`` prints one line
per network, architecture and precision: the seconds that building takes, the number of kernels, how many of them fall
to the rule that takes every group, the most registers and shared memory, the least occupancy of a kernel that fills the
GPU, and the bytes spilled. ``--kernels`` adds a line for each kernel. The exit code is 1 when a kernel spills. No GPU
is needed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import convc
from convc.backends.cuda.usage import Usage

HEADER = (
    f"{'model':20} {'arch':6} {'precision':9} {'build':>7} {'kernels':>7} {'fallback':>8} {'regs':>4} {'shared':>7} "
    f"{'occupancy':>9} {'spilled':>7}"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--arch", default="sm_75,sm_80,sm_90")
    parser.add_argument("--precision", default="fp32,tf32,fp16")
    parser.add_argument("--kernels", action="store_true")
    options = parser.parse_args()
    print(HEADER, flush=True)
    spilled = 0
    for model in options.models:
        for precision in options.precision.split(","):
            begin = time.perf_counter()
            built = convc.compile(model, target="cuda", arch=options.arch, precision=precision)
            seconds = time.perf_counter() - begin
            for arch, kernels in built.usage.items():
                print(_line(Path(model).stem, arch, precision, seconds, kernels), flush=True)
                spilled += sum(k.spills for k in kernels)
                if options.kernels:
                    print(Usage.HEADER, *kernels, sep="\n", flush=True)
    print(f"{spilled} bytes spilled")
    return 1 if spilled else 0


def _line(model: str, arch: str, precision: str, seconds: float, kernels: list[Usage]) -> str:
    full = [k.occupancy for k in kernels if k.waves >= 1]
    return (
        f"{model:20} {arch:6} {precision:9} {seconds:6.1f}s {len(kernels):7}"
        f" {sum(k.rule == 'fallback' for k in kernels):8}"
        f" {max(k.registers for k in kernels):4} {max(k.shared for k in kernels):7}"
        f" {min(full, default=1.0):9.0%} {sum(k.spills for k in kernels):7}"
    )


if __name__ == "__main__":
    sys.exit(main())
