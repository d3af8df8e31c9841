"""Where the CPU seconds of a whole fit go, stage by stage, of one thread.

    python benchmarks/search.py MODEL DATA [--limit 60] [--grid full] [--fast] [--objective written] [--read auto]
        [--dtype bfloat16]

MODEL as ``--model`` of ``tillerman fit``; DATA as its argument. Everything else is at its default.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

import tillerman
from tillerman.core.rows import Progress, silent
from tillerman.data.loading import load_examples
from tillerman.models.opened import open_model
from tillerman.pipeline.experiment import quick
from tillerman.pipeline.flow import fit
from tillerman.reports.verdict import judge_log


class Stopwatch:
    """A watch that keeps CPU seconds by title; a stage within a stage counts for the outer one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._busy = False

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        del total
        if self._busy:
            yield silent
            return
        self._busy, began = True, time.process_time()
        try:
            yield silent
        finally:
            self._busy = False
            self.seconds[title.split(",")[0] if title.startswith("grid") else title] += time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--grid", default="coarse")
    parser.add_argument("--read", default="auto")
    parser.add_argument("--objective", default="scored")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--fast", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    opened = open_model(given.model, dtype=given.dtype)
    data = load_examples(given.data, limit=given.limit)
    asked = tillerman.Experiment(method=given.method, grid=given.grid, read=given.read, objective=given.objective)
    watch, began = Stopwatch(), time.process_time()
    log = fit(quick(asked) if given.fast else asked, opened, data, watch=watch).log
    total = time.process_time() - began
    for title, seconds in sorted(watch.seconds.items(), key=lambda pair: -pair[1]):
        print(f"{seconds:8.1f} s  {title}")
    print(f"{total - sum(watch.seconds.values()):8.1f} s  outside of stages")
    print(f"{total:8.1f} s  all; {log.cells_compared} cells; {log.method} {log.hook_point} dose {log.dose:.2f}")
    print(judge_log(log).outcome, judge_log(log).words)


if __name__ == "__main__":
    main()
