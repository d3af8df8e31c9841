"""A machine with pretend accelerators, as a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext
from transformers import PreTrainedModel

from .build import load_guards
from .record import UP, Record
from .tensors import RECORD, PretendMode, PretendTensor, pretended

FREE = 8 * 2**30  # bytes that each device says it has left


@contextmanager
def pretend_machine(count: int = 1, *, free: int = FREE) -> Iterator[Record]:
    """Inside, torch finds ``count`` CUDA devices, and ``xla:0``, whose name autograd takes without an accelerator.
    What they had to do is recorded."""
    load_guards()
    RECORD.clear()
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        there: dict[str, Callable[..., Any]] = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: count,
            "current_device": lambda: 0,
            "mem_get_info": lambda device=None: (free, 2 * free),
            "get_device_name": lambda device=None: "pretended",
            "max_memory_allocated": lambda device=None: 0,
            "synchronize": lambda device=None: None,
            "empty_cache": lambda: None,
            "get_rng_state": lambda device=None: torch.get_rng_state(),
            "set_rng_state": lambda state, device=None: None,
        }
        for name, what in there.items():
            patch.setattr(torch.cuda, name, what)
        patch.setenv("HF_DEACTIVATE_ASYNC_LOAD", "1")  # threads of transformers would not know the mode
        patch.setattr(torch._C, "_cuda_init", lambda: None, raising=False)
        patch.setattr(torch, "tensor", _making(torch.tensor))
        patch.setattr(PreTrainedModel, "to", _tying(PreTrainedModel.to))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        # Backward passes stay in this thread: others would not know the mode, nor devices that came after torch began.
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(PretendMode())
        yield RECORD


def _making(plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """``torch.tensor`` does not reach the dispatcher."""

    def tensor(data: Any, *args: Any, device: Any = None, **more: Any) -> torch.Tensor:
        place = pretended(_default_device() if device is None else device)
        if place is None:
            return plain(data, *args, device=device, **more)
        RECORD.note(UP, "torch.tensor")
        made = plain(data.cpu() if isinstance(data, torch.Tensor) else data, *args, device="cpu", **more)
        return PretendTensor(made, place)

    return tensor


def _default_device() -> torch.device | None:
    """Of ``with torch.device(...)``. What torch has for it makes a tensor to see."""
    modes = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, DeviceContext)]
    return modes[-1].device if modes else None


def _tying(plain: Callable[..., Any]) -> Callable[..., Any]:
    """A real device moves weights in place and keeps ties; wrappers are new parameters."""

    def to(self: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        moved = plain(self, *args, **kwargs)
        moved.tie_weights()
        return moved

    return to
