"""A CUDA device on the CPU, for machines without a GPU: the real kernels, launches and geometry, no speed.

``GPUGRAD_CUDA_SIM=1`` makes ``backend/cuda.py`` hand out this package's stand-in for
CuPy (``module.py``): arrays whose memory is the host's (``array.py``, ``memory.py``),
two devices with streams and captured graphs (``runtime.py``), and kernels that the
host's C++ compiler compiles (``compiler.py``, ``include/``) and a launcher calls with
their arguments checked (``launch.py``).  ``cublaslt.py`` stands in for cuBLASLt.  What
CuPy does not have is missing here too (``api.py``).

Three more variables: ``GPUGRAD_CUDA_SIM_ORDER`` is the seed of the order in which the
threads of a block run, ``GPUGRAD_CUDA_SIM_SANITIZE=1`` compiles kernels with
AddressSanitizer and UndefinedBehaviorSanitizer (in a process that is started with
``compiler.sanitizer_environment()``), and ``CXX`` names the compiler.
"""
