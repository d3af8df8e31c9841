"""Models in GGUF files: unpacked once into a folder of the cache, which is then opened as any other.

Unpacked, because steering reads and edits ordinary layers, gradients flow, and every option of opening holds. It costs
the memory of the unpacked model; the packed file would need llama.cpp's kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from tillerman.core.cache import cache_folder, digest_of, kept, megabytes
from tillerman.core.errors import ModelError
from tillerman.models.gguf_header import GgufHeader, read_header
from tillerman.models.loading import FAILURES, quiet_bars, said

_SHOWN = 6  # names of files
_REMEDY = (
    "transformers reads the usual kinds of GGUF only; take the model's own folder (config.json, "
    "safetensors) in its place"
)


def gguf_file(source: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only one of a folder that has no config.json. None: none.

    ``ModelError`` where a folder holds several."""
    if source.suffix.lower() == ".gguf":
        if not source.is_file():
            raise ModelError(f"{source}: no such file; check the path")
        return source
    if not source.is_dir() or (source / "config.json").exists() or (source / "adapter_config.json").exists():
        return None
    found = sorted(path for path in source.iterdir() if path.suffix.lower() == ".gguf")
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        raise ModelError(f"{source}: holds {len(found)} GGUF files ({names}); name the one to open: {found[0]}")
    return found[0] if found else None


def header_of(path: Path) -> GgufHeader:
    """Its header. ``ModelError`` also where the packages that unpack it are not installed."""
    header = read_header(path)
    lacking = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if lacking:
        raise ModelError(f"{path}: GGUF files need {' and '.join(lacking)}: pip install 'tillerman[gguf]'")
    return header


def unpacked(path: Path, header: GgufHeader, dtype: torch.dtype, say: Callable[[str], None]) -> Path:
    """A folder with config, tokenizer and weights of that type, made once per file and type. ``say`` is told when it
    has to be made, with its size and place."""
    size = header.parameters * dtype.itemsize
    folder = cache_folder() / "gguf" / f"{digest_of(path)}-{str(dtype).removeprefix('torch.')}"
    if not folder.is_dir():
        say(f"{path.name} is unpacked once, {megabytes(size)} in {folder}")

    def make(making: Path) -> None:
        try:
            with quiet_bars(), redirect_stderr(StringIO()):  # a bar of its own, which nothing turns off
                AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(making)
                model = AutoModelForCausalLM.from_pretrained(
                    path.parent, gguf_file=path.name, dtype=dtype, quantization_config=GgufConfig(dequantize=True)
                )
                model.save_pretrained(making)
        except FAILURES as error:
            raise ModelError(f"{path}: cannot be unpacked: {said(error)} {_REMEDY}") from error

    return kept(folder, make, needs=int(1.05 * size))
