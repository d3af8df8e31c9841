"""Wall time of a full fit: 1,000 persona items, all layers, 12 strengths, three PAS variants.

    python benchmarks/fit_wall_time.py

The search is run a second time with one pass over all prompts per cell instead of branches: the ratio
is the gain, and the numbers must be the same but for answers on the edge.
"""

from __future__ import annotations

import argparse
import json
import time

import torch

import tillerman
from tillerman.evaluation import grid
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.search import choose
from tillerman.pipeline.set_up import set_up
from tillerman.pipeline.side_effects import make_meter

DOSES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0, 1.25, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sample:interest-in-science")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = tillerman.load_examples(args.data)
    opened = tillerman.open_model("pilot")
    experiment = tillerman.Experiment(method="pas", doses=DOSES)

    started = time.perf_counter()
    log = tillerman.fit(experiment, opened, data).log
    whole = time.perf_counter() - started
    grids = {}
    cells = {}
    for name, fault in (("branches", grid.branch_fault), ("plain", lambda _: "not asked for")):
        grid.branch_fault = fault
        bench = set_up(experiment, opened, data, tillerman.Store(None, ""), Unwatched())
        meter = make_meter(bench)
        started = time.perf_counter()
        cells[name] = choose(bench, meter).cells
        grids[name] = time.perf_counter() - started
    print(
        json.dumps(
            {
                "items": len(data.examples),
                "n_train": log.n_train,
                "n_validation": log.n_validation,
                "n_test": log.n_test,
                "layers": opened.layers,
                "strengths": len(DOSES),
                "cells": log.cells_compared,
                "threads": args.threads,
                "fit_seconds": round(whole, 1),
                "search_seconds_branches": round(grids["branches"], 1),
                "search_seconds_plain": round(grids["plain"], 1),
                "ratio_plain_to_branches": round(grids["plain"] / grids["branches"], 2),
                "largest_difference_of_a_cell": max(
                    abs(a.score - b.score) for a, b in zip(cells["plain"], cells["branches"], strict=True)
                ),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
