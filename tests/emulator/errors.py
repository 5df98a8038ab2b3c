"""The error of the emulator."""

from __future__ import annotations


class EmulationError(Exception):
    """A kernel cannot be compiled by the emulator, or did what a kernel must not do."""
