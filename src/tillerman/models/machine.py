"""What this machine has: devices, and whether bfloat16 is fast on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch

from tillerman.core.errors import ModelError

_ACCELERATORS = ("cuda", "mps", "xpu")  # in this order
FAST = 1.25  # bfloat16 has to be this many times as fast as float32
_BUDGET = 0.3  # seconds of the measurement, for each type


def device_named(text: str) -> torch.device:
    """``auto`` is an accelerator if there is one, else the CPU. ``ModelError`` for a device that torch does not know or
    this machine does not have."""
    if text == "auto":
        return torch.device(next((kind for kind in _ACCELERATORS if _has(kind)), "cpu"))
    try:
        device = torch.device(text)
    except RuntimeError:
        raise ModelError(f"device {text!r}: expected auto, cpu, cuda, cuda:1, mps or xpu") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if not count:
            raise ModelError(f"device {text!r}: torch {torch.__version__} finds no CUDA device here; use auto or cpu")
        if (device.index or 0) >= count:
            raise ModelError(f"device {text!r}: this machine has cuda:0..{count - 1}")
    elif device.type not in ("cpu", "meta"):
        _try(device)
    if device.type == "meta":
        raise ModelError(f"device {text!r} holds no weights; use auto, cpu, cuda, cuda:1 or mps")
    return device


def _has(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    return torch.backends.mps.is_available() if kind == "mps" else torch.xpu.is_available()


def _try(device: torch.device) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, NotImplementedError, AssertionError, ImportError, AttributeError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        said = f"{lines[0][:240].rstrip('.')}"
        raise ModelError(f"device {str(device)!r} cannot be used here ({said}); use auto, cpu or cuda") from error


@cache
def bfloat16_speed(kind: str) -> float:
    """How many times as fast as float32 a linear layer is in bfloat16 on this kind of device, measured once in a
    process and in less than a second: the fastest of several passes each, in turn."""
    with torch.inference_mode():
        passes = {dtype: _linear(dtype, kind) for dtype in (torch.float32, torch.bfloat16)}
        best = dict.fromkeys(passes, float("inf"))
        for one in passes.values():
            one()  # the first is slow: kernels are chosen
        ends = time.perf_counter() + 2 * _BUDGET
        for _ in range(20):
            for dtype, one in passes.items():
                best[dtype] = min(best[dtype], one())
            if time.perf_counter() > ends:
                break
    return best[torch.float32] / best[torch.bfloat16]


def _linear(dtype: torch.dtype, kind: str) -> Callable[[], float]:
    rows = torch.ones(256, 1024, dtype=dtype, device=kind)
    weight = torch.ones(1024, 1024, dtype=dtype, device=kind)

    def seconds() -> float:
        started = time.perf_counter()
        # One value comes back, so that an accelerator has finished.
        torch.nn.functional.linear(rows, weight)[0, 0].item()
        return time.perf_counter() - started

    return seconds
