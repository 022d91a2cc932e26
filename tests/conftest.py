"""Devices and op samples as parameters: a test that takes ``device`` or ``case`` runs for each.

A test's attribute ``cases`` chooses among the samples; ``on_cuda = False`` leaves out CUDA devices.
"""

import sys
from pathlib import Path

import pytest
from helpers import CASES, DEVICES, ON_CUDA
from hypothesis import settings

import gpugrad as gg
from gpugrad.backend import cuda

# For the benchmarks, which are no part of the package; at the end, so that an installed gpugrad comes first.
sys.path.append(str(Path(__file__).parent.parent))

settings.register_profile("gpugrad", deadline=None, max_examples=60, derandomize=True, database=None)
settings.load_profile("gpugrad")


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        wanted = getattr(metafunc.function, "cases", lambda case: True)
        cases = [case for case in CASES if wanted(case)]
        on_cuda = ON_CUDA(cases) if getattr(metafunc.function, "on_cuda", True) else []
        metafunc.parametrize("case", [*cases, *on_cuda], ids=str)
    elif "device" in metafunc.fixturenames:
        metafunc.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def no_fault_is_left():
    """What a device finds wrong with an index belongs to the test that gave it."""
    yield
    if cuda.diagnose().usable:
        cuda.synchronize()


@pytest.fixture
def default_device(device):
    """Tensors that the test makes lie on ``device``."""
    with gg.device(device):
        yield device
