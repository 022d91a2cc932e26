"""A CUDA device on the CPU, for tests on machines without a GPU: real kernels, launches and geometry, no speed."""
