"""How kernels for GPUs are scheduled, one file for each kind of kernel."""
