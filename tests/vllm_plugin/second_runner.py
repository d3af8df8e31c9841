"""vLLM's second model runner on a CPU: Triton's interpreter runs its kernels, and its streams do nothing.

For tests alone, until vLLM has a way of its own.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import torch


class _Driver:
    @staticmethod
    def is_active() -> bool:
        return True


class _Backend:
    driver = _Driver
    compiler = None


class _Stream:
    """Everything happens at once."""

    def __init__(self, *args: Any, **more: Any) -> None: ...
    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *args: object) -> None: ...
    def wait_stream(self, *args: Any) -> None: ...
    def wait_event(self, *args: Any) -> None: ...
    def synchronize(self) -> None: ...
    def record_event(self, *args: Any) -> _Event:
        return _Event()


class _Event:
    def __init__(self, *args: Any, **more: Any) -> None: ...
    def record(self, *args: Any) -> None: ...
    def synchronize(self) -> None: ...
    def wait(self, *args: Any) -> None: ...
    def query(self) -> bool:
        return True


def use(triton_folder: str) -> None:
    """Before vLLM is imported."""
    os.environ.update(TRITON_INTERPRET="1", VLLM_USE_V2_MODEL_RUNNER="1")
    sys.path.insert(0, triton_folder)
    import triton.backends

    triton.backends.backends.clear()
    triton.backends.backends["cpu"] = _Backend
    torch.cuda.Stream, torch.cuda.Event, torch.Event = _Stream, _Event, _Event  # type: ignore[misc,assignment]
    torch.cuda.current_stream = lambda *args, **more: _Stream()  # type: ignore[assignment,misc]
    torch.cuda.stream = lambda stream: _Stream()  # type: ignore[assignment,misc]
    torch.cuda.set_stream = lambda *args: None  # type: ignore[assignment]
