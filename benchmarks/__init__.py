"""Timings of gpugrad beside its peers; nothing here is a test."""
