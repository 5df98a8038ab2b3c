"""Schedules of kernels for GPUs, one file for each kind of kernel."""
