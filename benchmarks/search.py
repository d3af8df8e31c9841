"""Where the CPU seconds of a whole fit go, stage by stage, of one thread.

    python benchmarks/search.py MODEL DATA [--limit 60] [--method caa] [--layers 8-20] [--grid full] [--fast]
        [--objective written] [--read auto] [--dtype bfloat16]

MODEL as ``--model`` of ``tillerman fit``; DATA as its argument. Everything else is at its default. Beside the seconds
of a stage stand the tokens that it ran through all blocks (a token in half of them is half a token) and through the
head, and the process's peak memory in it beyond what it held when the model was open, as a multiple of the weights
(Linux).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import tillerman
from tillerman.core.rows import Progress, silent
from tillerman.data.loading import load_examples
from tillerman.models.opened import OpenModel, open_model
from tillerman.pipeline.flow import fit
from tillerman.pipeline.presets import quick
from tillerman.reports.verdict import judge_log

OUTSIDE = "outside of stages"


class Stopwatch:
    """A watch that keeps CPU seconds and tokens by title; a stage within a stage counts for the outer one."""

    def __init__(self, opened: OpenModel) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.blocks: dict[str, float] = defaultdict(float)
        self.head: dict[str, float] = defaultdict(float)
        self.peak: dict[str, float] = defaultdict(float)
        self._title, self._began = OUTSIDE, time.thread_time()
        peak()
        self._held, self._weights = peak(), opened.parts.causal.get_memory_footprint()
        parts, head = opened.parts, opened.parts.causal.get_output_embeddings()

        def in_block(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            h = args[0] if args else kwargs["hidden_states"]
            self.blocks[self._title] += h.shape[0] * h.shape[1] / len(parts.blocks)

        def in_head(_: object, args: tuple[Any, ...]) -> None:
            self.head[self._title] += args[0].numel() / args[0].shape[-1]

        for block in parts.blocks:  # a block that is left out does not call its mlp
            block.mlp.register_forward_pre_hook(in_block, with_kwargs=True)
        head.register_forward_pre_hook(in_head)

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        del total
        if self._title != OUTSIDE:
            yield silent
            return
        self.turn(title.split(",")[0] if title.startswith(("grid", "activations")) else title)
        try:
            yield silent
        finally:
            self.turn(OUTSIDE)

    def turn(self, title: str) -> None:
        """What comes now counts for this title."""
        now = time.thread_time()
        self.seconds[self._title] += now - self._began
        self.peak[self._title] = max(self.peak[self._title], (peak() - self._held) / self._weights)
        self._title, self._began = title, now


def peak() -> int:
    """Bytes that the process held at most since this was asked last."""
    lines = Path("/proc/self/status").read_text().splitlines()
    most = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--layers")
    parser.add_argument("--grid", default="coarse")
    parser.add_argument("--read", default="auto")
    parser.add_argument("--objective", default="scored")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    opened = open_model(given.model, dtype=given.dtype)
    data = load_examples(given.data, limit=given.limit)
    ends = [int(end) for end in given.layers.split("-")] if given.layers else []
    asked = tillerman.Experiment(
        method=given.method,
        grid=given.grid,
        read=given.read,
        objective=given.objective,
        layers=tuple(range(ends[0], ends[-1] + 1)) if ends else None,
    )
    watch = Stopwatch(opened)
    log = fit(quick(asked) if given.fast else asked, opened, data, watch=watch).log
    watch.turn(OUTSIDE)
    print("   CPU s   tokens     head   peak")
    for title, seconds in sorted(watch.seconds.items(), key=lambda pair: -pair[1]):
        print(f"{seconds:8.1f} {watch.blocks[title]:8,.0f} {watch.head[title]:8,.0f} {watch.peak[title]:6.2f}  {title}")
    totals = [sum(side.values()) for side in (watch.seconds, watch.blocks, watch.head)]
    most = max(watch.peak.values())
    print(f"{totals[0]:8.1f} {totals[1]:8,.0f} {totals[2]:8,.0f} {most:6.2f}  all; {log.cells_compared} cells")
    print(f"{log.method} {log.hook_point} dose {log.dose:.2f}, effect {log.effect.value:+.3f} {log.effect.interval}")
    print(judge_log(log).outcome, judge_log(log).words)


if __name__ == "__main__":
    main()
