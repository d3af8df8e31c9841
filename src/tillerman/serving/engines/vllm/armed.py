"""What a worker holds of running requests, and the change that it makes at the outputs of decoder blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from tillerman.core.errors import ModelError, TillermanError
from tillerman.serving.engines.vllm.setting import Setting
from tillerman.serving.engines.vllm.tables import BlockTable
from tillerman.serving.engines.vllm.vectors import ServedVectors
from tillerman.serving.lane_rows import LaneRows
from tillerman.serving.lanes import LanePlan
from tillerman.serving.pulls import Pulls

_ROWS = 4  # for each request that runs; one that finds none ends as an error
_SPARE = 512  # tokens by which captured graphs are padded, at most


class Armed:
    """What one worker holds: a table for each prepared block, the row of each token of a step, and how often each
    block's change ran. All of it is allocated before graphs are captured, at its final size."""

    def __init__(
        self, wanted: Setting, layers: tuple[int, ...], width: int, requests: int, tokens: int, like: Tensor
    ) -> None:
        self.layers, self.width = layers, width
        self.vectors = ServedVectors(wanted.folder)
        size = requests * _ROWS
        self.tables = tuple(BlockTable(size + 1, wanted.reads_at(layer), width, like) for layer in layers)
        self.rows: Int[Tensor, " tokens"] = torch.zeros(tokens + _SPARE, dtype=torch.int64, device=like.device)
        self.hits: Int[Tensor, " layers"] = torch.zeros(len(layers), dtype=torch.int64, device=like.device)
        self.book = LaneRows(size, self._write)
        self.failed: dict[str, str] = {}
        self._host = np.zeros(tokens + _SPARE, dtype=np.int64)
        self._dirty = 0

    def acquire(self, request: str, plan: LanePlan, prompt: Sequence[int]) -> None:
        """Rows for a request that begins. One that cannot have them is remembered: it must not go on unsteered, and a
        worker that raises would take all others with it."""
        try:
            self.book.acquire(request, plan.lanes(prompt))
        except TillermanError as error:
            self.failed[request] = str(error)

    def release(self, request: str) -> None:
        self.book.release(request)
        self.failed.pop(request, None)

    def fill(self, requests: Sequence[str], counts: Sequence[int], done: Sequence[int]) -> None:
        """The rows of the tokens of the coming pass."""
        if not self.book.requests and not self._dirty:
            return
        size = self.book.fill(self._host, requests, counts, done)
        self._host[size : max(size, self._dirty)] = 0
        reach = max(size, self._dirty)
        self.rows[:reach].copy_(torch.from_numpy(self._host[:reach]), non_blocking=True)
        self._dirty = size if self.book.requests else 0

    def told(self) -> dict[str, Any]:
        """What goes to the engine core with the result of a step."""
        return {"hits": self.hits.tolist(), "failed": dict(self.failed)}

    def _write(self, row: int, pulls: Pulls) -> None:
        reads = {layer: table.reads for layer, table in zip(self.layers, self.tables, strict=True)}
        changes = self.vectors.changes(pulls, reads, self.width, self.tables[0].sums.dtype)
        for table, change in zip(self.tables, changes, strict=True):
            table.write(row, change)


def arm(runner: Any, wanted: Setting) -> Armed:
    """Hang the change into the model of a runner that has just loaded it. ``ModelError`` where steering cannot be right
    with how vLLM was started."""
    config = runner.vllm_config
    _refuse(config)
    text = config.model_config.hf_config.get_text_config()
    blocks = _blocks(runner.model, text.num_hidden_layers)
    wide = tuple(range(len(blocks))) if wanted.layers is None else wanted.layers
    beyond = [layer for layer in wide if layer >= len(blocks)]
    if beyond:
        raise ModelError(f"the artefacts steer block {beyond[0]}, and the model has {len(blocks)}: another model's?")
    like = next(runner.model.parameters()).new_zeros((), dtype=config.model_config.dtype)
    with torch.inference_mode(False):
        armed = Armed(wanted, wide, text.hidden_size, config.scheduler_config.max_num_seqs, runner.max_num_tokens, like)
    for i, layer in enumerate(wide):
        if type(blocks[layer]).__name__ != "PPMissingLayer":  # another worker's, under pipeline parallelism
            blocks[layer].register_forward_hook(_hook(armed, i))
    return armed


def _hook(armed: Armed, i: int) -> Any:
    steered = armed.tables[i].steering(armed.rows, armed.hits[i : i + 1])

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return steered(output, None)
        if isinstance(output, tuple) and len(output) == 2 and all(isinstance(one, Tensor) for one in output):
            # The residual, not what the block adds to it: the fused sum and norm after it stay whole.
            return output[0], steered(output[1], output[0])
        raise ModelError(f"{type(module).__name__} gives neither a tensor nor a pair: this model cannot be steered")

    return hook


def _blocks(model: nn.Module, count: int) -> nn.ModuleList:
    found = [one for one in model.modules() if isinstance(one, nn.ModuleList) and len(one) == count]
    if not found:
        raise ModelError(f"no list of {count} decoder blocks was found in {type(model).__name__}")
    return found[0]


def _refuse(config: Any) -> None:
    """What moves tokens after their rows were written, or caches by keys of its own."""
    parallel, cache = config.parallel_config, config.cache_config
    for found, flag in (
        (getattr(cache, "kv_sharing_fast_prefill", False), "--kv-sharing-fast-prefill"),
        (getattr(parallel, "enable_dbo", False) or getattr(parallel, "use_ubatching", False), "--enable-dbo"),
        (getattr(parallel, "prefill_context_parallel_size", 1) > 1, "--prefill-context-parallel-size"),
        (config.kv_transfer_config is not None, "--kv-transfer-config"),
    ):
        if found:
            raise ModelError(f"steering is not right under {flag}; start vLLM without it")
