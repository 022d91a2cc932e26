"""The version of gpugrad, kept apart so that the build can read it."""

__version__ = "0.1.0"
