"""Places of a network's values in memory."""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """The place of a value in memory.

    For ``base`` ``input`` or ``output``, ``at`` is its number. In the ``packed`` weights or the ``workspace`` of a
    call, ``at`` is a byte offset; before that is known, a ``value`` in the workspace has a number. For a ``weight``
    that is not packed, ``at`` is its name in the model.
    """

    base: str
    at: int | str

    def after(self, nbytes: int) -> Place:
        """The place ``nbytes`` bytes after this one, which must lie in the packed weights or in the workspace."""
        assert isinstance(self.at, int)
        return Place(self.base, self.at + nbytes)
