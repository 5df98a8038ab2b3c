"""Schedules for NVIDIA GPUs, compiled by NVRTC where no GPU need be: one file a kind of kernel; `rules.py` lists them in order."""
