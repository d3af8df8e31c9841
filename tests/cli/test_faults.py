"""Full memory and a failing accelerator end a command with one sentence; other errors stay what they are."""

from __future__ import annotations

import pytest
import torch

from tillerman.cli.common import dressed
from tillerman.cli.faults import explained
from tillerman.core.errors import ModelError

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB, other allocations: 1.0 GB, max allowed: 9.1 GB)."),
    MemoryError(),
]
BROKEN = [
    RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"),
    RuntimeError("CUDNN_STATUS_NOT_INITIALIZED"),
    RuntimeError("no kernel image is available for execution on the device"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_full_memory_names_the_device_and_what_needs_less(error, device):
    found = explained(error, device)
    assert isinstance(found, ModelError)
    assert f"the memory of {device} is full" in str(found)
    assert ("--device cpu" in str(found)) == (device != "cpu")
    assert len(str(found)) <= 600


@pytest.mark.parametrize("error", BROKEN, ids=str)
def test_a_failing_accelerator_is_one_line(error):
    said = str(explained(error, "cuda"))
    assert said.startswith("cuda failed (")
    assert "\n" not in said


def test_a_command_raises_the_sentence_and_leaves_other_errors_alone():
    def full(device: str = "cuda") -> None:
        raise FULL[0]

    def wrong(device: str = "cuda") -> None:
        raise RuntimeError("shapes cannot be multiplied")

    from click import Context
    from click.core import Command

    usual = {"device": "cuda", "quiet": False, "log_level": "error"}
    with pytest.raises(ModelError, match="the memory of cuda is full"):
        dressed("show", full)(ctx=Context(Command("show")), **usual)
    with pytest.raises(RuntimeError, match="shapes"):
        dressed("show", wrong)(ctx=Context(Command("show")), **usual)
