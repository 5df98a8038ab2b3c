"""Running compiled models on NVIDIA GPUs through the driver alone."""
