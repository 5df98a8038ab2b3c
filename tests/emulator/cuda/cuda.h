// Empty, since shim.h defines the parts of CUDA that kernels use.
