"""Faults of an accelerator or of memory in the middle of a command, as errors that name a remedy."""

from __future__ import annotations

from tillerman.core.errors import ModelError, TillermanError

_NO_ROOM = ("out of memory", "can't allocate memory", "cannot allocate memory")
_ACCELERATOR = ("CUDA error", "CUDA driver", "CUBLAS", "CUDNN", "HIP error", "MPS backend", "NCCL", "no kernel image")


def explained(error: RuntimeError | MemoryError, device: str) -> TillermanError | None:
    """None for an error of another kind."""
    text = str(error).strip()
    if isinstance(error, MemoryError) or any(words in text.lower() for words in _NO_ROOM):
        others = "a smaller model or fewer items (--limit)"
        rest = "a machine with more" if device == "cpu" else f"what else uses {device} closed, or --device cpu"
        return ModelError(
            f"the memory of {device} is full. Finished work is kept: the same command goes on where it stopped. "
            f"It needs {others}, {rest}"
        )
    if any(words in text for words in _ACCELERATOR):
        first = text.splitlines()[0][:200]
        return ModelError(f"{device} failed ({first}); run the command again, or with --device cpu")
    return None
