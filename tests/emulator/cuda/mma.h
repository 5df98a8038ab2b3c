// Empty: the emulator defines what kernels use of CUDA in shim.h.
