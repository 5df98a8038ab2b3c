"""What goes wrong in emulation."""

from __future__ import annotations


class EmulationError(Exception):
    """A kernel that the emulator cannot compile, or that did what no kernel may."""
