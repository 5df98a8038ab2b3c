"""The backend for NVIDIA GPUs.

There is one file of schedules for each kind of kernel, and ``rules.py`` lists the rules in order. NVRTC compiles the
kernels, which needs no GPU.
"""
