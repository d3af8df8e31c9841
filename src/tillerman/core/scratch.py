"""Room for what memory may not hold."""

from __future__ import annotations

import shutil
import tempfile

import torch
from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import UsageError

IN_MEMORY = 2**30  # bytes; more goes into a file


def scratch(count: int, rows: int, width: int) -> Float[Tensor, "count rows width"]:
    """Room for float32 tables: in memory, or mapped from a file without a name if they are larger than
    ``IN_MEMORY``. The file goes when the last tensor on it does, or the process."""
    size = 4 * count * rows * width
    if size <= IN_MEMORY:
        return torch.empty(count, rows, width)
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if size > free // 2:
        raise UsageError(
            f"{count} x {rows} x {width} activations take {size / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB "
            "free, of which at most half is used; read fewer layers or items, take an estimator of means "
            "(mean_difference), or point TMPDIR at a larger disk"
        )
    with tempfile.NamedTemporaryFile(dir=folder) as file:  # the mapping outlives the name
        return torch.from_file(file.name, shared=True, size=count * rows * width).view(count, rows, width)
