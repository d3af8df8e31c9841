"""The pretend devices keep CUDA's rules: a test that passes on them would not have passed by being let off."""

from __future__ import annotations

import pytest
import torch

from .machine import pretend_machine
from .record import ACROSS, DOUBLE, DOWN, SYNC, UP
from .tensors import MixedDevicesError


@pytest.fixture
def record():
    with pretend_machine(2) as record:
        yield record


def kinds(record):
    return {(event.kind, event.operation) for event in record.events}


def test_tensors_say_where_they_are_and_come_back_unchanged(record):
    there = torch.arange(6.0).reshape(2, 3).to("cuda:1")
    assert there.device == torch.device("cuda:1")
    assert (there * 2 + torch.ones(3, device="cuda:1")).cpu().tolist() == [[1, 3, 5], [7, 9, 11]]
    assert {(UP, "aten::_to_copy"), (DOWN, "aten::_to_copy")} == kinds(record)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a, b, here: a + here,
        lambda a, b, here: a + b,
        lambda a, b, here: torch.cat([a, here]),
        lambda a, b, here: here[a.long()],
        lambda a, b, here: a[b.long()],
        lambda a, b, here: a.index_put((torch.tensor([0]),), here[:1]),
        lambda a, b, here: torch.where(a > 0, a, b),
    ],
)
def test_what_cuda_refuses_is_refused(record, wrong):
    a, b, here = torch.zeros(3, device="cuda"), torch.zeros(3, device="cuda:1"), torch.zeros(3)
    with pytest.raises(MixedDevicesError, match="Expected all tensors to be on the same device"):
        wrong(a, b, here)


def test_what_cuda_allows_is_allowed(record):
    a, b = torch.arange(3.0, device="cuda"), torch.zeros(3, device="cuda:1")
    assert (a + torch.tensor(1.0)).cpu().tolist() == [1, 2, 3]
    assert a[torch.tensor([2, 0])].cpu().tolist() == [2, 0]
    b.copy_(a)
    assert b.cpu().tolist() == [0, 1, 2]
    assert (ACROSS, "aten::copy_") in kinds(record)


@pytest.mark.parametrize(
    "waits",
    [
        lambda t: bool(t.any()),
        lambda t: float(t.sum()),
        lambda t: t.nonzero(),
        lambda t: t[t > 1],
        lambda t: t.tolist(),
        lambda t: t.item() if t.numel() == 1 else t.max().item(),
    ],
)
def test_what_waits_for_a_device_is_recorded(record, waits):
    t = torch.arange(3.0, device="cuda")
    record.clear()
    waits(t)
    assert SYNC in {kind for kind, _ in kinds(record)}


def test_arithmetic_is_not_recorded_and_double_precision_is(record):
    t = torch.arange(3.0, device="cuda")
    record.clear()
    torch.where(t > 1, t, 0.0).softmax(0)
    assert not record.events
    t.double()
    assert {kind for kind, _ in kinds(record)} == {DOUBLE}


def test_gradients_flow_on_a_device_that_autograd_takes_without_an_accelerator(record):
    w = torch.ones(2, device="xla", requires_grad=True)
    (w * torch.tensor([2.0, 3.0], device="xla")).sum().backward()
    assert w.grad.device.type == "xla"
    assert w.grad.tolist() == [2, 3]
