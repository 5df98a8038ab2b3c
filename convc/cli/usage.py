"""The error of wrong usage."""


class UsageError(Exception):
    """Arguments that do not fit together, or not the model: exit code 2."""
