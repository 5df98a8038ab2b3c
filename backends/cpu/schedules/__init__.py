"""Schedules of kernels for CPUs, one file for each kind of kernel."""
