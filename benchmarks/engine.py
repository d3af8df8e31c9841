"""The engine against the straightforward way, on one model in one run: ratios, not times.

    python benchmarks/engine.py selection   # PAS selection: 3 vectors x 10 layers x 15 strengths
    python benchmarks/engine.py fit         # predict, capture all layers, select, test
    python benchmarks/engine.py capture     # contrast pairs against output_hidden_states batches
    python benchmarks/engine.py decoding    # steered against unsteered generate
    python benchmarks/engine.py everywhere  # a grid over all positions against whole passes
    python benchmarks/engine.py growth      # time per cell and per pair against their number; --svg draws it

The model is a random Llama of 46 M parameters (12 blocks of 512, 8 heads, vocabulary 8,192).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.provenance import Provenance
from tillerman.core.rows import Row
from tillerman.core.steerings.vector import SteeringVector
from tillerman.models.batches import batches
from tillerman.models.capture import capture
from tillerman.models.cells import GridCell
from tillerman.models.families import anatomy
from tillerman.models.grid import branch_fault, grid_scores
from tillerman.models.logits import option_logprobs
from tillerman.models.opened import OpenModel
from tillerman.reports.charts.svg import Axis, group, line, marker, path, standalone, svg, text, ticks
from tillerman.reports.numbers import compact
from tillerman.steering.scopes import meant_in

BLOCKS, WIDTH, VOCABULARY, PROMPT = 12, 512, 8192, 150


def new_model() -> OpenModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=BLOCKS,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        initializer_range=0.06,
    )
    model = LlamaForCausalLM(config).eval()
    words = Tokenizer(WordLevel({"<pad>": 0, "<unk>": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    return OpenModel(model, tokenizer, "random-46M", anatomy(model))


def prompts(n: int, length: int = PROMPT, seed: int = 0) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(seed)
    return [tuple(row) for row in torch.randint(3, VOCABULARY, (n, length), generator=generator).tolist()]


def vectors(layers: range, count: int) -> list[dict[HookPoint, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{HookPoint(i): torch.randn(WIDTH, generator=generator) for i in layers} for _ in range(count)]


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def worked(work: Callable[[], object]) -> float:
    """CPU seconds, for curves that a busy machine would bend (all threads counted)."""
    started = time.process_time()
    work()
    return time.process_time() - started


def steering(direction: torch.Tensor, point: HookPoint) -> SteeringVector:
    made = Provenance("random-46M", "-", WIDTH, BLOCKS, "-", "-", "none", "caa")
    return SteeringVector({point: direction}, {point: 1.0}, made)


@torch.inference_mode()
def selection(opened: OpenModel, n: int) -> dict[str, object]:
    """450 cells on prompts of 150 tokens: one forward per prompt and cell with a plain hook, against branches."""
    strengths = [0.1 * k for k in range(1, 16)]
    cells = [
        GridCell(point, direction, strength)
        for vector in vectors(range(1, 11), 3)
        for point, direction in vector.items()
        for strength in strengths
    ]
    rows, options = prompts(n), [[10, 20, 30, 40]] * n
    right = torch.randint(0, 4, (n,), generator=torch.Generator().manual_seed(2))

    def plainly() -> torch.Tensor:
        out = torch.empty(len(cells), n, 4)
        for c, cell in enumerate(cells):

            def hook(_: object, __: object, h: torch.Tensor, cell: GridCell = cell) -> torch.Tensor:
                h = h.clone()
                h[:, -1] += cell.strength * cell.direction
                return h

            handle = opened.parts.blocks[cell.point.layer].register_forward_hook(hook)
            for i, row in enumerate(rows):
                logits = opened.model(input_ids=torch.tensor([row]), use_cache=False, logits_to_keep=1).logits
                out[c, i] = logits[0, -1, options[i]]
            handle.remove()
        return out

    def branched() -> torch.Tensor:
        out = torch.empty(len(cells), n, 4)
        for batch in batches(rows, pad=0):
            out[:, batch.rows] = grid_scores(opened, batch, options, cells, meant_in(Scope("last"), batch))
        return out

    assert branch_fault(opened) is None
    found: dict[str, torch.Tensor] = {}
    ours = timed(lambda: found.update(ours=branched()))
    theirs = timed(lambda: found.update(theirs=plainly()))
    best = [int((found[k].argmax(-1) == right).float().mean(1).argmax()) for k in ("ours", "theirs")]
    return {
        "cells": len(cells),
        "prompts": n,
        "plain_s": theirs,
        "branches_s": ours,
        "ratio": theirs / ours,
        "largest_difference": float((found["ours"] - found["theirs"]).abs().max()),
        "same_cell": best[0] == best[1],
    }


@torch.inference_mode()
def fitting(opened: OpenModel, n: int) -> dict[str, object]:
    """The work of a whole fit on ``2n`` train, ``n`` validation and ``n`` test prompts of 150 tokens: predict,
    capture 10 layers of both answers, search 450 cells, test. One prompt per forward and one extraction
    per layer, against the engine."""
    train, validation, test = prompts(2 * n, seed=0), prompts(n, seed=1), prompts(n, seed=2)
    layers, strengths, options = range(1, 11), [0.1 * k for k in range(1, 16)], [10, 20, 30, 40]
    pairs = [Row((*p, answer), PROMPT) for p in train for answer in options[:2]]
    noise = vectors(layers, 3)

    def one(row: tuple[int, ...], cell: GridCell | None = None) -> torch.Tensor:
        handle = None
        if cell is not None:

            def hook(_: object, __: object, h: torch.Tensor) -> torch.Tensor:
                h = h.clone()
                h[:, -1] += cell.strength * cell.direction
                return h

            handle = opened.parts.blocks[cell.point.layer].register_forward_hook(hook)
        logits = opened.model(input_ids=torch.tensor([row]), use_cache=False, logits_to_keep=1).logits
        if handle is not None:
            handle.remove()
        return logits[0, -1, options]

    def grid(captured: dict[HookPoint, torch.Tensor]) -> list[GridCell]:
        fitted = {p: captured[p][0::2].mean(0) - captured[p][1::2].mean(0) for p in captured}
        return [GridCell(p, fitted[p] + v[p], s) for v in noise for p in fitted for s in strengths]

    def plainly() -> torch.Tensor:
        for row in train:
            one(row)
        captured = {}
        for layer in layers:
            kept: list[torch.Tensor] = []
            handle = opened.parts.blocks[layer].register_forward_hook(lambda _, __, h, kept=kept: kept.append(h[0, -1]))
            for pair in pairs:
                opened.model(input_ids=torch.tensor([pair.tokens]), use_cache=False, logits_to_keep=1)
            handle.remove()
            captured[HookPoint(layer)] = torch.stack(kept)
        scores = torch.stack([torch.stack([one(row, cell) for row in validation]) for cell in grid(captured)])
        for row in test:
            one(row), one(row, grid(captured)[0])
        return scores

    def engine() -> torch.Tensor:
        option_logprobs(opened, train, [options] * len(train))
        cells = grid(capture(opened, pairs, [HookPoint(layer) for layer in layers]))
        unsteered = replace(cells[0], strength=0.0)
        scores(test, [unsteered, cells[0]])
        return scores(validation, cells)

    def scores(rows: list[tuple[int, ...]], cells: list[GridCell]) -> torch.Tensor:
        out = torch.empty(len(cells), len(rows), 4)
        for batch in batches(rows, pad=0):
            meant = meant_in(Scope("last"), batch)
            out[:, batch.rows] = grid_scores(opened, batch, [options] * len(batch.rows), cells, meant)
        return out

    branch_fault(opened)
    found: dict[str, torch.Tensor] = {}
    ours = worked(lambda: found.update(ours=engine()))
    theirs = worked(lambda: found.update(theirs=plainly()))
    return {
        "train": 2 * n,
        "validation": n,
        "test": n,
        "plain_cpu_s": theirs,
        "engine_cpu_s": ours,
        "ratio": theirs / ours,
        "largest_difference": float((found["ours"] - found["theirs"]).abs().max()),
    }


@torch.inference_mode()
def capturing(opened: OpenModel, n: int) -> dict[str, object]:
    """Contrast pairs (one prompt, two answers of two tokens) at half depth, against output_hidden_states."""
    rows = [Row((*p, *answer), PROMPT) for p in prompts(n) for answer in ((5, 6), (7, 6))]
    point = HookPoint(BLOCKS // 2 - 1)
    tokens = sum(len(row.tokens) for row in rows)

    def plainly() -> torch.Tensor:
        out = []
        for start in range(0, len(rows), 16):
            ids = torch.tensor([row.tokens for row in rows[start : start + 16]])
            hidden = opened.model(input_ids=ids, output_hidden_states=True, use_cache=False).hidden_states
            out.append(hidden[point.layer + 1][:, -1])
        return torch.cat(out)

    found: dict[str, torch.Tensor] = {}
    before = _peak()
    ours = timed(lambda: found.update(ours=capture(opened, rows, [point])[point]))
    after = _peak()
    theirs = timed(lambda: found.update(theirs=plainly()))
    return {
        "pairs": n,
        "plain_tokens_s": tokens / theirs,
        "ours_tokens_s": tokens / ours,
        "ratio": theirs / ours,
        "largest_difference": float((found["ours"] - found["theirs"]).abs().max()),
        "peak_above_model_mb": (after - before) / 1024,
        "peak_plain_above_model_mb": (_peak() - before) / 1024,
    }


@torch.inference_mode()
def decoding(opened: OpenModel, new_tokens: int) -> dict[str, object]:
    """``generate`` with one intervention on every token, against none; the two take turns."""
    direction = vectors(range(6, 7), 1)[0][HookPoint(6)]
    plan = Intervention(steering(direction, HookPoint(6)), 0.1)
    different = [
        (Intervention(steering(vector[point], point), 0.01 * k),)
        for k, vector in enumerate(vectors(range(2, 10), 32), start=1)
        for point in [HookPoint(2 + k % 8)]
    ]
    result: dict[str, object] = {}
    for rows in (1, 32):
        ids = torch.tensor(prompts(rows, 32))

        def run(ids: torch.Tensor = ids) -> object:
            return opened.model.generate(  # type: ignore[operator]
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                do_sample=False,
                pad_token_id=0,
            )

        def steered(run: Callable[[], object] = run) -> object:
            with tillerman.steer(opened.model, plan):
                return run()

        def by_row(run: Callable[[], object] = run, rows: int = rows) -> object:
            with tillerman.steer_rows(opened.model, different[:rows]):
                return run()

        run()
        times = [(timed(run), timed(steered), timed(by_row)) for _ in range(7)]
        result[f"batch {rows}: steered / unsteered"] = median(b / a for a, b, _ in times)
        result[f"batch {rows}: a plan of its own in every row / unsteered"] = median(c / a for a, _, c in times)
    return result


@torch.inference_mode()
def everywhere(opened: OpenModel, n: int) -> dict[str, object]:
    """Cells that edit every position, 10 layers x 3 strengths: whole passes in batches against restarts."""
    cells = [GridCell(p, d, s) for p, d in vectors(range(1, 11), 1)[0].items() for s in (0.1, 0.2, 0.3)]
    rows, options = prompts(n), [[10, 20]] * n

    def plainly() -> torch.Tensor:
        out = torch.empty(len(cells), n, 2)
        for c, cell in enumerate(cells):
            with tillerman.steer(opened.model, Intervention(steering(cell.direction, cell.point), cell.strength)):
                for batch in batches(rows, pad=0):
                    logits = opened.model(input_ids=batch.tokens, use_cache=False, logits_to_keep=1).logits
                    out[c, batch.rows] = logits[:, -1, [10, 20]]
        return out

    def restarted() -> torch.Tensor:
        out = torch.empty(len(cells), n, 2)
        for batch in batches(rows, pad=0):
            out[:, batch.rows] = grid_scores(opened, batch, options, cells, meant_in(Scope("all"), batch))
        return out

    found: dict[str, torch.Tensor] = {}
    ours = timed(lambda: found.update(ours=restarted()))
    theirs = timed(lambda: found.update(theirs=plainly()))
    return {
        "cells": len(cells),
        "prompts": n,
        "ratio": theirs / ours,
        "largest_difference": float((found["ours"] - found["theirs"]).abs().max()),
    }


@torch.inference_mode()
def growth(opened: OpenModel, n: int) -> dict[str, object]:
    """Milliseconds per cell and per pair, and peak memory, against their number.

    The prompts are paid once, so that a cell costs less the more there are.
    """
    batch = next(batches(prompts(min(n, 6)), pad=0))
    meant = meant_in(Scope("last"), batch)
    per_cell: dict[int, float] = {}
    for count in (30, 60, 120, 240, 480):
        point_vectors = vectors(range(1, 11), 1)[0]
        cells = [GridCell(p, d, 0.01 * k) for k in range(count // 10) for p, d in point_vectors.items()]
        seconds = worked(lambda cells=cells: grid_scores(opened, batch, [[10, 20]] * len(batch.rows), cells, meant))
        per_cell[count] = 1000 * seconds / count
    per_pair: dict[int, float] = {}
    peak: dict[int, float] = {}
    for pairs in (32, 64, 128, 256):
        rows = [Row((*p, *answer), PROMPT) for p in prompts(pairs) for answer in ((5, 6), (7, 6))]
        seconds = worked(lambda rows=rows: capture(opened, rows, [HookPoint(5)]))
        per_pair[pairs] = 1000 * seconds / pairs
        peak[pairs] = _peak() / 1024
    return {"CPU ms per cell, by cells": per_cell, "CPU ms per pair, by pairs": per_pair, "peak MB, by pairs": peak}


def drawing(found: Mapping[str, object]) -> str:
    """Three panels: time per cell, time per pair, peak memory; the number of them by logarithm, the rest from 0."""
    width, height, gap = 270.0, 150.0, 30.0
    parts = []
    for k, (title, values) in enumerate(found.items()):
        parts += _panel(title, values, k * (width + gap), width, height)
    says = "; ".join(f"{title}: {_told(values)}" for title, values in found.items())
    return svg((3 * width + 2 * gap, height + 76), "What grows with cells and pairs, and what does not", says, parts)


def _panel(title: str, values: Mapping[int, float], at: float, width: float, height: float) -> list[str]:
    top, left = 34.0, at + 42
    value, by = title.split(", by ")
    x = Axis(min(values), max(values), left + 8, at + width - 12, log=True)
    y = Axis(0, 1.1 * max(values.values()), top + height, top)
    parts = [text(at, 16, f"{value[:1].upper()}{value[1:]}", "strong")]
    for tick in ticks(0, y.high, 5):
        parts += [
            line(left, y(tick), at + width, y(tick), "grid"),
            text(left - 6, y(tick) + 4, compact(tick), "tick", "end"),
        ]
    spots = [(x(n), y(v)) for n, v in values.items()]
    parts.append(path(spots, "curve steered"))
    for (n, v), spot in zip(values.items(), spots, strict=True):
        parts.append(group([marker("dot", *spot, "steered")], f"{n} {by}: {compact(v)}"))
        parts.append(text(spot[0], top + height + 17, str(n), "tick", "middle"))
    return [*parts, text((left + at + width) / 2, top + height + 36, by, "head", "middle")]


def _told(values: Mapping[int, float]) -> str:
    return ", ".join(f"{compact(v)} with {n}" for n, v in values.items())


def _peak() -> float:
    """The process's peak memory so far, kB."""
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


WORK: dict[str, tuple[Callable[[OpenModel, int], dict[str, object]], int]] = {
    "selection": (selection, 2),
    "fit": (fitting, 3),
    "capture": (capturing, 100),
    "decoding": (decoding, 48),
    "everywhere": (everywhere, 16),
    "growth": (growth, 8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("-n", type=int, help="prompts, pairs or new tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--svg", type=Path, help="where to draw what grows (work: growth)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    work, usual = WORK[args.work]
    if args.svg and args.work != "growth":
        parser.error("--svg draws the work 'growth' only")
    found = work(new_model(), args.n or usual)
    if args.svg:
        args.svg.write_text(standalone(drawing(found)), encoding="utf-8")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "machine": platform.machine()}
    print(json.dumps({"work": args.work, "threads": args.threads, **versions, **found}, indent=1))


if __name__ == "__main__":
    main()
