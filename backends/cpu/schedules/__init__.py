"""How kernels for CPUs are scheduled, one file for each kind of kernel."""
