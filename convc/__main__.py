"""The command line, as ``python -m convc`` and as the command ``convc``."""

import sys

INTERRUPTED = 130
"""The exit code after an interrupt."""


def main() -> int:
    """Run the command line, and return its exit code. An interrupt while it is still being imported ends it quietly."""
    try:
        from .cli import main as run

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
