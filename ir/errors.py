"""Every error a user can cause. All derive from ``ConvcError``; the message names the node, the cause and the fix."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from difflib import get_close_matches
from typing import Any


class ConvcError(Exception):
    """Base class of all errors that convc raises on purpose."""

    def within(self, what: str) -> None:
        """Put what the error is about before its message, unless the message names that already.

        The error keeps its type, fields and traceback; raise it again by a bare ``raise``.
        """
        if what not in str(self):
            self.args = (f"{what}: {self}", *self.args[1:])


class GraphError(ConvcError):
    """A graph breaks a rule of the IR: a cycle, an undefined value, a type that does not follow from its inputs."""


class ShapeError(GraphError):
    """An op cannot take operands of these shapes or dtypes."""


class ParseError(ConvcError):
    """The text form of a graph does not follow the grammar."""


class ModelFileError(ConvcError):
    """A model file is missing, truncated, not what its name says, or points outside its folder."""


class UnsupportedOpError(ConvcError):
    """The model needs an op, or a form of an op, that convc does not compile."""


class NotConstantError(UnsupportedOpError):
    """A value that must be known at compile time is computed at run time.

    ``inputs`` names the small inputs of the model that it follows from: the model can be compiled for their values.
    They are empty where the value follows from other inputs too.
    """

    def __init__(self, message: str, inputs: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.inputs = inputs


class LimitError(ConvcError):
    """The model asks for more than a limit allows: see ``convc.Limits``."""


class CompileError(ConvcError):
    """A well-formed graph could not be compiled for the target."""


class ArtifactError(ConvcError):
    """A compiled artifact cannot be written, read, or run on this machine."""


class InputError(ConvcError):
    """A compiled model was called with wrong inputs: a name, shape or dtype."""


class SizeError(InputError):
    """A compiled model was called with sizes that its code does not take.

    ``is_assumed`` says that the code was made for other sizes, so that the network may take these.
    """

    def __init__(self, message: str, is_assumed: bool = False) -> None:
        super().__init__(message)
        self.is_assumed = is_assumed


class DeviceError(ConvcError):
    """A GPU cannot be used: no driver, no device, code for another architecture, or a failure while it ran."""


_shown: dict[Any, Any] = {}
"""The warnings that were shown, which Python shows once."""


def warn(message: str) -> None:
    """Warn the user by a ``UserWarning`` that is printed as one line, without a line of Python."""
    warnings.warn_explicit(message, UserWarning, "convc", 0, registry=_shown)


NOT_AN_ARRAY = "it holds lists of different lengths, or what is no number"
"""Why lists of lists do not make an array of numbers."""


def plural(count: object, one: str, many: str = "") -> str:
    """A number of things in words: ``1 axis``, ``2 axes``. Without ``many`` the plural ends in s."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def lacking(name: str, known: Collection[str], whose: str = "the model") -> str:
    """The end of a message about a name that does not exist: ``'inptu', which the model lacks; did you mean 'input'?``.

    Without a name that is close it says which names there are.
    """
    if close := get_close_matches(name, known, 1):
        return f"'{name}', which {whose} lacks; did you mean '{close[0]}'?"
    some = [*known][:8]
    return f"'{name}', which {whose} lacks; there are: {', '.join(some) or 'none'}{', ...' if len(known) > 8 else ''}"
