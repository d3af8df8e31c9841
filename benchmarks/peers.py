"""Tillerman against other steering libraries on the same work, in one run: ratios, not times.

    python -m benchmarks.peers                  # both models
    python -m benchmarks.peers --model pilot    # one of them: random-46M or pilot
    python -m benchmarks.peers --work grid      # one of the works: vectors, grid or decoding

Set-up: ``benchmarks/requirements-peers.txt``. Every row is one line of JSON. ``ratio`` is the peer's time
over Tillerman's; in ``decoding`` it is steered over unsteered time, for each library. Times are CPU seconds
of one thread, so that a busy machine counts less. ``difference`` compares the results, so that the race is
over the same work: of vectors relative to their length (the last block by itself, where a peer may read
another thing), of logits absolute. A peer that does not run is a row with its error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from benchmarks.engine import PROMPT, VOCABULARY, new_model, prompts, steering
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from torch import Tensor
from transformers import PreTrainedTokenizerFast

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Scope
from tillerman.core.rows import Row
from tillerman.data.pairings import caa
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods.estimators import estimate
from tillerman.models.batches import Batch, batches
from tillerman.models.capture import capture
from tillerman.models.grid import GridCell, branch_fault, grid_scores
from tillerman.models.opened import OpenModel
from tillerman.steering.scopes import meant_in

BATCH = 32  # rows per pass for the peers: the usual setting of repeng, and generous for the others
OPTIONS = [10, 20, 30, 40]
Vectors = Mapping[int, Tensor]  # by layer


@dataclass(frozen=True, eq=False)
class Field:
    """What all run on. ``unrelated`` pairs begin with different words; ``rounds`` is how often a race is run."""

    opened: OpenModel
    pairs: list[tuple[str, str]]
    unrelated: list[tuple[str, str]]
    batch: Batch
    cells: list[GridCell]
    rounds: int

    @property
    def layers(self) -> list[int]:
        return list(range(self.opened.layers))

    @property
    def half(self) -> int:
        return self.opened.layers // 2 - 1


def random_field(pairs: int) -> Field:
    """The model of ``benchmarks/engine.py`` with a tokenizer of numbered words."""
    bare = new_model()
    words = {"<pad>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, VOCABULARY)}}
    reader = Tokenizer(WordLevel(words, unk_token="<unk>"))
    reader.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=reader, pad_token="<pad>", unk_token="<unk>")
    opened = OpenModel(bare.model, tokenizer, bare.id, bare.parts)

    def text(tokens: Iterable[int]) -> str:
        return " ".join(f"w{token}" for token in tokens)

    rows = prompts(pairs, PROMPT)
    alike = [(text((*row, 5, 6)), text((*row, 7, 6))) for row in rows]
    unlike = [(text(a), text(b)) for a, b in zip(rows[::2], rows[1::2], strict=False)]
    (batch,) = batches(prompts(2, PROMPT, seed=1), pad=0)
    return Field(opened, alike, unlike, batch, _cells(opened, range(1, 11), 6), rounds=1)


def pilot_field(pairs: int) -> Field:
    """The embedded model on persona questions, as ``caa`` writes them."""
    opened = tillerman.open_model("pilot")
    data = tillerman.load_examples("sample:interest-in-science", limit=pairs + 16)
    items, writer = present(data.examples), make_writer(opened.tokenizer)
    contrast = caa(items[:pairs], writer)
    decode = opened.tokenizer.decode
    sides = [[decode(row.tokens) for row in side] for side in (contrast.positive, contrast.negative)]
    alike = list(zip(*sides, strict=True))
    asked = [writer.write(item).prompt for item in items[pairs:]]
    (batch,) = batches(asked, pad=opened.pad_id, budget=sum(map(len, asked)) * 2)
    unlike = [(a, b) for (a, _), (_, b) in zip(alike[::2], alike[1::2], strict=False)]  # no question twice
    return Field(opened, alike, unlike, batch, _cells(opened, range(opened.layers), 8), rounds=3)


def _cells(opened: OpenModel, layers: range, strengths: int) -> list[GridCell]:
    generator = torch.Generator().manual_seed(1)
    directions = {layer: torch.randn(opened.parts.width, generator=generator) for layer in layers}
    return [GridCell(HookPoint(i), v, 0.1 * k) for i, v in directions.items() for k in range(1, strengths + 1)]


# Vectors from contrast pairs


def our_vectors(field: Field, pairs: list[tuple[str, str]], layers: list[int], estimator: str) -> Vectors:
    rows = [Row(tuple(field.opened.tokenizer(text).input_ids)) for pair in pairs for text in pair]
    got = capture(field.opened, rows, [HookPoint(layer) for layer in layers])
    return {point.layer: estimate(estimator, h[0::2], h[1::2], paired=True) for point, h in got.items()}


def repeng_vectors(field: Field, pairs: list[tuple[str, str]], layers: list[int]) -> Vectors:
    from repeng import ControlVector, DatasetEntry

    data = [DatasetEntry(positive, negative) for positive, negative in pairs]
    made = ControlVector.train(
        field.opened.model, field.opened.tokenizer, data, hidden_layers=layers, method="pca_center", batch_size=BATCH
    )
    return {layer: torch.from_numpy(direction) for layer, direction in made.directions.items()}


def steering_vectors_vectors(
    field: Field, pairs: list[tuple[str, str]], layers: list[int], batch: int = BATCH
) -> Vectors:
    from steering_vectors import train_steering_vector

    made = train_steering_vector(field.opened.model, field.opened.tokenizer, pairs, layers=layers, batch_size=batch)
    return made.layer_activations


def nnsight_vectors(field: Field, pairs: list[tuple[str, str]], layers: list[int]) -> Vectors:
    from nnsight import NNsight

    wrapped, tokenizer = NNsight(field.opened.model), field.opened.tokenizer
    texts = [text for pair in pairs for text in pair]
    kept: list[Tensor] = []
    for start in range(0, len(texts), BATCH):
        given = tokenizer(texts[start : start + BATCH], return_tensors="pt", padding=True, padding_side="left")
        with wrapped.trace(given["input_ids"], attention_mask=given["attention_mask"], use_cache=False) as tracer:
            read = [wrapped.model.layers[layer].output[:, -1] for layer in layers].save()
            tracer.stop()
        kept.append(torch.stack(list(read), dim=1))
    h = torch.cat(kept)
    return {layer: (h[0::2, i] - h[1::2, i]).mean(0) for i, layer in enumerate(layers)}


def vector_rows(field: Field) -> None:
    half, last = [field.half], field.layers[-1]
    works = [
        ("vectors, half depth", field.pairs, half),
        ("vectors, all layers", field.pairs, field.layers),
        ("vectors, half depth, no prompt twice", field.unrelated, half),
    ]
    peers: list[tuple[str, str, Callable[..., Vectors], str]] = [
        (
            "repeng",
            "pca",
            repeng_vectors,
            "length 1, signed by most pairs (ours: by the mean); last block read after the norm",
        ),
        (
            "steering-vectors",
            "mean_difference",
            steering_vectors_vectors,
            f"batches of {BATCH}; it takes 1 if not told",
        ),
        ("nnsight", "mean_difference", nnsight_vectors, "a trace stopped at the deepest layer, by hand"),
    ]
    for work, pairs, layers in works:
        for peer, estimator, theirs, note in peers:

            def ours(pairs: Any = pairs, layers: Any = layers, estimator: str = estimator) -> Vectors:
                return our_vectors(field, pairs, layers, estimator)

            def apart(a: Vectors, b: Vectors, layers: list[int] = layers) -> dict[str, float]:
                found = {layer: _apart(a[layer], b[layer]) for layer in layers}
                upper = {"difference, last block": found.pop(last)} if last in found and len(found) > 1 else {}
                return {"difference": max(found.values()), **upper}

            about = {"work": work, "peer": peer, "pairs": len(pairs), "method": estimator, "note": note}
            race(field, about, ours, lambda t=theirs, p=pairs, k=layers: t(field, p, k), apart)


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """Relative to the length of ours; a direction of length 1 is compared as an axis."""
    if abs(float(theirs.norm()) - 1) < 1e-4:
        ours, theirs = ours / ours.norm(), theirs * torch.sign(ours @ theirs)
    return float((ours - theirs).norm() / ours.norm())


# A grid of layers and strengths, scored at the last token


def our_grid(field: Field, scope: str) -> Tensor:
    meant = meant_in(Scope(scope), field.batch)
    return grid_scores(field.opened, field.batch, [OPTIONS] * len(field.batch.rows), field.cells, meant)


def _inputs(batch: Batch) -> dict[str, Any]:
    """Position ids are given because repeng's mask of padding needs one row of them for each prompt."""
    return {"attention_mask": batch.mask, "position_ids": batch.positions, "use_cache": False, "logits_to_keep": 1}


def repeng_grid(field: Field, scope: str) -> Tensor:
    from repeng import ControlModel, ControlVector

    if scope != "all":
        raise NotImplementedError("repeng steers every token")
    out, model = [], field.opened.model
    for cell in field.cells:
        layer = cell.point.layer
        controlled = ControlModel(model, [layer])
        controlled.set_control(ControlVector("llama", {layer: cell.direction.numpy()}), cell.strength)
        out.append(controlled(input_ids=field.batch.tokens, **_inputs(field.batch)).logits[:, -1, OPTIONS])
        controlled.unwrap()
    return torch.stack(out)


def steering_vectors_grid(field: Field, scope: str) -> Tensor:
    from steering_vectors import SteeringVector

    out, model = [], field.opened.model
    where: dict[str, Any] = {"token_indices": [-1]} if scope == "last" else {}
    for cell in field.cells:
        vector = SteeringVector({cell.point.layer: cell.direction})
        handle = vector.patch_activations(model, multiplier=cell.strength, **where)
        out.append(model(input_ids=field.batch.tokens, **_inputs(field.batch)).logits[:, -1, OPTIONS])
        handle.remove()
    return torch.stack(out)


def nnsight_grid(field: Field, scope: str) -> Tensor:
    from nnsight import NNsight

    out, wrapped = [], NNsight(field.opened.model)
    where = slice(-1, None) if scope == "last" else slice(None)
    for cell in field.cells:
        layer, change = cell.point.layer, cell.strength * cell.direction
        with wrapped.trace(field.batch.tokens, **_inputs(field.batch)):
            wrapped.model.layers[layer].output[:, where] += change
            logits = wrapped.output.logits[:, -1, OPTIONS].save()
        out.append(logits)
    return torch.stack(out)


def grid_rows(field: Field) -> None:
    peers: list[tuple[str, Callable[[Field, str], Tensor]]] = [
        ("repeng", repeng_grid),
        ("steering-vectors", steering_vectors_grid),
        ("nnsight", nnsight_grid),
    ]

    def apart(a: Tensor, b: Tensor) -> dict[str, float]:
        return {"difference": float((a - b).abs().max())}

    for scope in ("all", "last"):
        for peer, theirs in peers:
            about = {
                "work": f"grid, scope {scope}",
                "peer": peer,
                "cells": len(field.cells),
                "prompts": len(field.batch.rows),
                "tokens": field.batch.tokens.shape[1],
            }
            race(field, about, lambda s=scope: our_grid(field, s), lambda t=theirs, s=scope: t(field, s), apart)


# Decoding, each library's steered generate against the unsteered one

Generate = Callable[[Tensor, GridCell], Tensor]


def _settings(tokens: Tensor, new: int) -> dict[str, Any]:
    return {
        "attention_mask": torch.ones_like(tokens),
        "max_new_tokens": new,
        "min_new_tokens": new,
        "do_sample": False,
        "pad_token_id": 0,
    }


def decoders(field: Field, new: int) -> dict[str, Generate]:
    model = field.opened.model

    def unsteered(tokens: Tensor, _: GridCell) -> Tensor:
        return model.generate(input_ids=tokens, **_settings(tokens, new))

    def ours(tokens: Tensor, cell: GridCell) -> Tensor:
        with tillerman.steer(model, Intervention(steering(cell.direction, cell.point), cell.strength)):
            return model.generate(input_ids=tokens, **_settings(tokens, new))

    def repeng(tokens: Tensor, cell: GridCell) -> Tensor:
        from repeng import ControlModel, ControlVector

        controlled = ControlModel(model, [cell.point.layer])
        controlled.set_control(ControlVector("llama", {cell.point.layer: cell.direction.numpy()}), cell.strength)
        out = controlled.generate(input_ids=tokens, **_settings(tokens, new))
        controlled.unwrap()
        return out

    def steering_vectors(tokens: Tensor, cell: GridCell) -> Tensor:
        from steering_vectors import SteeringVector

        with SteeringVector({cell.point.layer: cell.direction}).apply(model, multiplier=cell.strength):
            return model.generate(input_ids=tokens, **_settings(tokens, new))

    def nnsight(tokens: Tensor, cell: GridCell) -> Tensor:
        from nnsight.modeling.transformers import TransformersModel

        wrapped = TransformersModel(model, tokenizer=field.opened.tokenizer, task="text-generation")
        layer, change = cell.point.layer, cell.strength * cell.direction
        with wrapped.generate({"input_ids": tokens}, **_settings(tokens, new)) as tracer:
            for _ in tracer.iter[:new]:
                wrapped.model.layers[layer].output[:] += change
            out = tracer.result.save()
        return out

    return {
        "unsteered": unsteered,
        "tillerman": ours,
        "repeng": repeng,
        "steering-vectors": steering_vectors,
        "nnsight": nnsight,
    }


def decoding_rows(field: Field, new: int, rounds: int) -> None:
    cell = [c for c in field.cells if c.point.layer == field.half][-1]
    for rows in (1, 8):
        tokens = torch.tensor(prompts(rows, 32)) % field.opened.model.config.vocab_size
        runs, times, said, failed = decoders(field, new), {}, {}, {}
        for name, run in runs.items():  # the first call of each is not timed
            said[name], failed[name] = attempt(partial(run, tokens, cell))
        for _ in range(rounds):
            for name, run in runs.items():
                if not failed[name]:
                    times.setdefault(name, []).append(seconds(partial(run, tokens, cell))[0])
        for name in list(runs)[1:]:
            about = {"work": "decoding", "peer": name, "batch": rows, "new_tokens": new}
            if failed[name]:
                show(field, {**about, "error": failed[name]})
                continue
            ratios = sorted(s / u for s, u in zip(times[name], times["unsteered"], strict=True))
            show(
                field,
                {
                    **about,
                    "ratio": median(ratios),
                    "ratios": [round(ratios[0], 3), round(ratios[-1], 3)],
                    "same_tokens": torch.equal(said[name], said["tillerman"]),
                    "moved": not torch.equal(said[name], said["unsteered"]),
                },
            )


# The races


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    out = work()
    return time.process_time() - started, out


def attempt(work: Callable[[], Any]) -> tuple[Any, str]:
    try:
        return work(), ""
    except Exception as error:  # noqa: BLE001 # whatever a peer raises is its row
        return None, f"{type(error).__name__}: {error}"


def race(
    field: Field,
    about: dict[str, Any],
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    apart: Callable[[Any, Any], dict[str, float]],
) -> None:
    """Take turns, and show medians."""
    times: list[tuple[float, float]] = []
    for _ in range(field.rounds):
        found, failed = attempt(lambda: seconds(theirs))
        if failed:
            show(field, {**about, "error": failed})
            return
        mine = seconds(ours)
        times.append((mine[0], found[0]))
    show(
        field,
        {
            **about,
            "ours_s": median(a for a, _ in times),
            "theirs_s": median(b for _, b in times),
            "ratio": median(b / a for a, b in times),
            **apart(mine[1], found[1]),
        },
    )


def show(field: Field, row: dict[str, Any]) -> None:
    tidy = {k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in row.items()}
    print(json.dumps({"model": field.opened.id, **tidy}), flush=True)


def restore_numpy_name() -> None:
    """repeng 0.4 names ``numpy.float_``, which numpy 2 removed; everything else here wants numpy 2."""
    _, failed = attempt(lambda: __import__("repeng"))
    if failed:
        print(json.dumps({"work": "import", "peer": "repeng", "error": failed, "remedy": "np.float_ = np.float64"}))
        np.float_ = np.float64  # type: ignore[attr-defined]


WORK: dict[str, Callable[[Field], None]] = {
    "vectors": vector_rows,
    "grid": grid_rows,
    "decoding": partial(decoding_rows, new=48, rounds=7),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("random-46M", "pilot"), action="append")
    parser.add_argument("--work", choices=WORK, action="append")
    parser.add_argument("--pairs", type=int, default=60)
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = ("torch", "transformers", "numpy", "repeng", "steering-vectors", "nnsight")
    versions = {name: attempt(lambda n=name: importlib.metadata.version(n))[0] for name in names}
    print(json.dumps({"threads": 1, "machine": platform.machine(), **versions}), flush=True)
    restore_numpy_name()
    for make, name in ((random_field, "random-46M"), (pilot_field, "pilot")):
        if args.model is None or name in args.model:
            field = make(args.pairs)
            branch_fault(field.opened)  # measured once per model, whoever asks
            with torch.inference_mode():
                for work in args.work or WORK:
                    WORK[work](field)


if __name__ == "__main__":
    main()
