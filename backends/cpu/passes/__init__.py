"""Passes that only the CPU backend runs."""
