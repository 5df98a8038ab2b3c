"""TVM's schedules of one function, without what TVM does on every call besides scheduling."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir


class Schedule(s_tir.Schedule):  # type: ignore[misc]
    """A schedule of a function, which is called ``main``.

    Its methods are TVM's, without the comparison of arguments with the annotations of Python types, which takes a
    quarter of the time of scheduling. TVM's own code checks what it is given.
    """

    def __init__(self, func: Any) -> None:
        super().__init__(tvm.IRModule({"main": func}), error_render_level="fast")


for _name, _method in vars(s_tir.Schedule).items():
    if hasattr(_method, "__wrapped__") and not _name.startswith("_"):
        setattr(Schedule, _name, _method.__wrapped__)


class Scheduled:
    """A function in the form of a schedule that is complete: it takes no further primitives."""

    def __init__(self, func: Any) -> None:
        self.mod = tvm.IRModule({"main": func})
