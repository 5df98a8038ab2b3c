"""Where a value of a network lies in memory."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where a value lies: ``base`` is ``input`` or ``output``, ``at`` which one; ``packed`` weights or the ``workspace`` of a
    call, ``at`` the byte offset; or a ``weight`` as the model has it, by its name.
    """

    base: str
    at: int | str

    def after(self, nbytes: int) -> Place:
        """The place so many bytes behind one in the packed weights or the workspace."""
        assert isinstance(self.at, int)
        return Place(self.base, self.at + nbytes)
