"""A CUDA device on the CPU, for machines without a GPU: the real kernels, launches and geometry, no speed.

``GPUGRAD_CUDA_SIM=1`` makes ``backend/cuda.py`` hand out this package's stand-in for
CuPy (``module.py``): arrays whose memory is the host's (``array.py``, ``memory.py``),
two devices with streams and captured graphs (``runtime.py``), and kernels that the
host's C++ compiler compiles (``compiler.py``, ``include/``) and a launcher calls with
their arguments checked (``launch.py``).  What CuPy does not have is missing here too.
"""
