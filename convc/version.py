"""The version of convc."""

__version__ = "0.1.0"
