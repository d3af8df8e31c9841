"""What a fit costs on a real model, in CPU seconds of one thread: reading activations against other libraries, and the
stages of a whole fit.

    python -m benchmarks.real MODEL                 # both works; MODEL: a folder, a hub name or what open_model takes
    python -m benchmarks.real MODEL --work vectors  # one of them: vectors or fit
    python -m benchmarks.real MODEL --dtype bfloat16

Every row is one line of JSON. The pairs of ``vectors`` are real chat prompts: a persona question in the model's own
template, answered as wanted and not, as ``caa`` reads them. ``ratio`` is the peer's time over Tillerman's,
``difference`` that of the vectors relative to their length. Peers that are not installed are rows with their error
(set-up in ``benchmarks/requirements-peers.txt``).
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from benchmarks.peers import Field, restore_numpy_name, vector_rows

import tillerman
from tillerman.core.rows import Progress, silent
from tillerman.data.pairings import caa
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.models.batches import batches
from tillerman.models.opened import OpenModel

DATA = "sample:interest-in-science"


def chat_field(opened: OpenModel, pairs: int) -> Field:
    items, writer = present(tillerman.load_examples(DATA, limit=pairs).examples), make_writer(opened.tokenizer)
    contrast = caa(items, writer)
    decode = opened.tokenizer.decode
    sides = [[decode(row.tokens) for row in side] for side in (contrast.positive, contrast.negative)]
    alike = list(zip(*sides, strict=True))
    unlike = [(a, b) for (a, _), (_, b) in zip(alike[::2], alike[1::2], strict=False)]  # no question twice
    (batch,) = batches([row.tokens for row in contrast.positive[:2]], pad=opened.pad_id)
    return Field(opened, alike, unlike, batch, [], rounds=1)


class Stages:
    """A watch that adds up the CPU seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        del total
        started = time.thread_time()
        yield silent
        self.seconds[title] = self.seconds.get(title, 0.0) + time.thread_time() - started


def fit_rows(opened: OpenModel, limit: int, layers: tuple[int, ...]) -> None:
    """The whole fit, and each stage's share of it; tokens that entered a block, all blocks together; the process's peak
    beyond what it held when the model was open, as a multiple of the weights (Linux)."""
    ran, held = [0], _resident()

    def count(_: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        h = args[0] if args else kwargs["hidden_states"]
        ran[0] += h.shape[0] * h.shape[1]

    mlps = [block.mlp for block in opened.parts.blocks]  # a block that is left out does not call it
    handles = [mlp.register_forward_pre_hook(count, with_kwargs=True) for mlp in mlps]
    data, watch = tillerman.load_examples(DATA, limit=limit), Stages()
    experiment = tillerman.Experiment(method="caa", layers=layers)
    started = time.thread_time()
    outcome = tillerman.fit(experiment, opened, data, watch=watch)
    seconds = time.thread_time() - started
    for handle in handles:
        handle.remove()
    log = outcome.log
    row = {
        "work": f"fit, caa, {limit} items, {len(layers)} layers",
        "dtype": str(opened.parts.causal.dtype).removeprefix("torch."),
        "seconds": round(seconds, 1),
        "block passes of a token, thousands": round(ran[0] / 1000),
        "peak memory / weights": round((_peak() - held) / opened.parts.causal.get_memory_footprint(), 2),
        "cells": log.cells_compared,
        "chosen": f"{log.hook_point}, dose {log.dose:.2f}",
        "effect": round(log.effect.value, 3),
        "stages": {title: round(spent, 1) for title, spent in sorted(watch.seconds.items(), key=lambda kv: -kv[1])},
    }
    print(json.dumps(row), flush=True)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--work", choices=["vectors", "fit"])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--layers", default="8-20")
    given = parser.parse_args()
    torch.set_num_threads(1)
    opened = tillerman.open_model(given.model, dtype=getattr(torch, given.dtype))
    if given.work in (None, "vectors"):
        restore_numpy_name()
        vector_rows(chat_field(opened, given.pairs))
    if given.work in (None, "fit"):
        first, last = (int(end) for end in given.layers.split("-"))
        fit_rows(opened, given.limit, tuple(range(first, last + 1)))


if __name__ == "__main__":
    main()
