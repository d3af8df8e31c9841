"""Hold three artefacts under ``steer`` against llama.cpp with the exported control vector, and against the baked model.

    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python==0.3.36
    python convert_hf_to_gguf.py MODEL --outtype f32 --outfile MODEL.gguf      # llama.cpp's own converter
    python tools/exchange/parity.py MODEL MODEL.gguf --out parity.md

Next tokens after held-out prompts of the samples, in float32. ``without`` is llama.cpp without the vector: what two
implementations of one model differ by anyway. ``off by one`` is the same vector a block later: what a wrong numbering
would show.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from pathlib import Path
from typing import Any

import gguf
import llama_cpp  # type: ignore[import-not-found]
import numpy as np
import torch
from three import Compared, three

import tillerman
from tillerman.exchange.baking import baked
from tillerman.exchange.exporting import exported
from tillerman.exchange.parity import Parity, compared, next_logprobs
from tillerman.models.opened import OpenModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of the model, opened in float32")
    parser.add_argument("gguf", type=Path, help="the same model for llama.cpp, float32")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    opened = tillerman.open_model(asked.model, dtype="float32")
    llama = Llama(asked.gguf)
    rows = [
        "| artefact | steering itself | baked | GGUF in llama.cpp | llama.cpp without | off by one |",
        "|---|---|---|---|---|---|",
    ]
    for one in three(opened):
        rows.append(f"| `{one.name}` | " + " | ".join(measured(opened, llama, one)) + " |")
    asked.out.write_text("\n".join(rows) + "\n", encoding="utf-8")


def measured(opened: OpenModel, llama: Llama, one: Compared) -> list[str]:
    """KL in nats per token: of steering, and between ``steer`` and each other way."""
    artefact, prompts = one.artefact, one.prompts
    plain = next_logprobs(opened, opened.model, prompts)
    with tillerman.steer(opened, artefact):
        steered = next_logprobs(opened, opened.model, prompts)
    ways = [compared(plain, steered, next_logprobs(opened, baked(opened, artefact), prompts))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.gguf"
        exported("gguf", artefact, path)
        ways.append(compared(plain, steered, llama.logprobs(prompts, path)))
        without = compared(plain, plain, llama.logprobs(prompts))
        ways += [without, compared(plain, steered, llama.logprobs(prompts, path, shift=1))]
    return [f"{ways[0].moved:.3g}", *(said(one) for one in ways)]


def said(found: Parity) -> str:
    return f"{found.kl:.1e}"


class Llama:
    """llama.cpp with one control vector at a time."""

    def __init__(self, path: Path) -> None:
        self.own = llama_cpp.Llama(
            str(path), n_ctx=512, n_threads=1, n_threads_batch=1, verbose=False, type_k=0, type_v=0
        )
        self.layers = int(llama_cpp.llama_model_n_layer(self.own._model.model))

    def logprobs(self, prompts: list[tuple[int, ...]], vector: Path | None = None, shift: int = 0) -> torch.Tensor:
        self._set(vector, shift)
        return torch.stack([self._next(list(tokens)) for tokens in prompts])

    def _next(self, tokens: list[int]) -> torch.Tensor:
        self.own.reset()
        self.own.eval(tokens)
        found = llama_cpp.llama_get_logits_ith(self.own._ctx.ctx, -1)
        logits = np.ctypeslib.as_array(found, (self.own.n_vocab(),)).copy()
        return torch.from_numpy(logits).double().log_softmax(-1)

    def _set(self, vector: Path | None, shift: int) -> None:
        """As ``common_control_vector_load`` lays them out: the direction of layer 1 first."""
        width = self.own.n_embd()
        table = np.zeros((self.layers - 1, width), dtype=np.float32)
        tensors: list[Any] = [] if vector is None else gguf.GGUFReader(vector).tensors
        for tensor in tensors:
            table[int(tensor.name.split(".")[1]) - 1 + shift] += tensor.data
        pointer = table.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        if llama_cpp.llama_set_adapter_cvec(self.own._ctx.ctx, pointer, table.size, width, 1, self.layers):
            raise SystemExit("llama.cpp refuses the vector")


if __name__ == "__main__":
    main()
