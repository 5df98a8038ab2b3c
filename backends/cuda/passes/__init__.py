"""Passes that only the CUDA backend runs."""
