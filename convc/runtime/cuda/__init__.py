"""Running machine code for NVIDIA GPUs, by the driver alone."""
