"""The error of wrong usage."""


class UsageError(Exception):
    """Arguments that do not go together or do not fit the model. The exit code is 2."""
