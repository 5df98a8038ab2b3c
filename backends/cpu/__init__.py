"""Schedules for CPUs, compiled by LLVM: one file a kind of kernel; `rules.py` lists them in order."""
