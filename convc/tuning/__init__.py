"""Measuring how convolutions are computed fastest, and keeping what was found."""
