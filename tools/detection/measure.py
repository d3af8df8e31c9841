"""How well a direction tells texts with a concept from others, without a judge: AxBench's concept detection.

    python tools/detection/measure.py OUT --model smollm2=FOLDER --data FOLDER [--sets prod_2b_l20_v1] [--minutes 30]

FOLDER of ``--data`` is ``concept10`` of stanfordnlp/axbench (Wu et al. 2025, arXiv 2501.17148; Apache-2.0): a folder
per set with ``generate/train_data.parquet`` and ``inference/latent_eval_data.parquet``. OUT gets one file for each
model, set and concept; what lies there is not measured again. ``python tools/detection/page.py --add OUT`` takes the
files into the repository.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from found import BAG, RANDOM, Found, path_of, write
from torch import Tensor

import tillerman
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.data.writing import Writer, make_writer
from tillerman.evaluation.scorers.labels import AnswerPair, learn
from tillerman.methods.estimators import ESTIMATORS
from tillerman.models.capture import capture
from tillerman.models.opened import OpenModel
from tillerman.statistics.ranking import area

DEPTHS = (0.3, 0.5, 0.8)
TOKENS = 128  # of a text; the rest is cut off
DRAWS = 10  # of random directions
MOST = 6000  # tokens of a side that an estimator learns from, drawn evenly


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts with the activations of all their tokens, ``[tokens, d]`` at each hook point, and where each text ends."""

    table: pd.DataFrame
    ends: tuple[int, ...]
    tokens: Mapping[HookPoint, Tensor]

    def of(self, which: Sequence[int], point: HookPoint) -> Tensor:
        return torch.cat([self.one(i, point) for i in which])

    def one(self, i: int, point: HookPoint) -> Tensor:
        return self.tokens[point][self.ends[i - 1] if i else 0 : self.ends[i]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, metavar="NAME=MODEL")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--sets", help="folders with commas; all if none is named")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--minutes", type=float, help="begin no set after so many minutes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    name, _, source = given.model.partition("=")
    opened = tillerman.open_model(source, dtype=getattr(torch, given.dtype))
    given.out.mkdir(parents=True, exist_ok=True)
    sets = given.sets.split(",") if given.sets else sorted(path.name for path in given.data.iterdir() if path.is_dir())
    ends = time.monotonic() + 60 * (given.minutes or float("inf"))
    for one in sets:
        if time.monotonic() > ends:
            sys.exit("the time is over; the same command goes on from here")
        measure(given.out, name, opened, given.data / one)


def measure(out: Path, model: str, opened: OpenModel, folder: Path) -> None:
    train = pd.read_parquet(folder / "generate" / "train_data.parquet")
    test = pd.read_parquet(folder / "inference" / "latent_eval_data.parquet")
    concepts = [c for c in sorted(train.concept_id.unique()) if c >= 0]
    left = [c for c in concepts if not path_of(out, (model, folder.name, int(c))).exists()]
    if not left:
        return
    points = points_of(opened)
    began = time.process_time()
    learned, asked = (read(opened, table, points) for table in (train, test))
    print(f"{folder.name}: read, {time.process_time() - began:.0f} CPU s", flush=True)
    for concept in left:
        began = time.process_time()
        found = detect(model, folder.name, int(concept), learned, asked, points)
        write(out, found)
        best = max(found.areas, key=lambda name: max(found.areas[name].values()))
        print(f"{folder.name} {concept}: {best}, {time.process_time() - began:.0f} CPU s", flush=True)


def points_of(opened: OpenModel) -> tuple[HookPoint, ...]:
    layers = len(opened.parts.blocks)
    return tuple(HookPoint(round(share * layers)) for share in DEPTHS)


def read(opened: OpenModel, table: pd.DataFrame, points: Sequence[HookPoint]) -> Texts:
    """The activation of every token of every reply."""
    writer = make_writer(opened.tokenizer)
    rows, ends = [], []
    for question, text in zip(table.input, table.output, strict=True):
        prompt, reply = written(writer, question, text)
        rows += [Row(prompt + reply[:k], len(prompt)) for k in range(1, len(reply) + 1)]
        ends.append(len(rows))
    return Texts(table, tuple(ends), capture(opened, rows, points, read="last"))


def written(writer: Writer, question: str, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    prompt = writer.encode(writer.reply_text(question))
    reply = tuple(writer.tokenizer(text, add_special_tokens=False)["input_ids"])[:TOKENS]
    return prompt, reply or prompt[-1:]


def detect(model: str, name: str, concept: int, learned: Texts, asked: Texts, points: Sequence[HookPoint]) -> Found:
    """Areas of every detector: the largest projection over a text's tokens, as AxBench pools, and the mean one."""
    with_it, without = sides(learned.table, concept)
    rows = asked.table.reset_index(drop=True)
    mine = rows[rows.concept_id == concept]
    wanted = list(mine.index[mine.category == "positive"])
    unwanted = list(mine.index[mine.category != "positive"])
    areas: dict[str, dict[str, float]] = {}
    for point in points:
        positive, negative = (thinned(learned.of(side, point)) for side in (with_it, without))
        directions = {one: make(positive, negative, False) for one, make in ESTIMATORS.items()}
        for k in range(DRAWS):
            drawn = torch.randn(positive.shape[1], generator=torch.Generator().manual_seed(k), dtype=positive.dtype)
            directions[f"{RANDOM} {k}"] = drawn
        for one, v in directions.items():
            scores = {i: asked.one(i, point).double() @ v for i in (*wanted, *unwanted)}
            for pooled, pool in (("max", torch.amax), ("mean", torch.mean)):
                high, low = ([float(pool(scores[i], dim=0)) for i in side] for side in (wanted, unwanted))
                areas.setdefault(one, {})[f"{point.layer} {pooled}"] = round(area(high, low), 4)
    scorer = learn(
        [
            AnswerPair(learned.table.output.iloc[i], learned.table.output.iloc[j])
            for i, j in zip(with_it, without, strict=False)
        ]
    )
    odds = [scorer.log_odds([rows.output[i] for i in side]) for side in (wanted, unwanted)]
    areas[BAG] = {"words": round(area(*odds), 4)}
    label = str(learned.table.output_concept.iloc[with_it[0]])
    counts = (len(with_it), len(without), len(wanted), len(unwanted))
    return Found(model, name, concept, label, counts, areas)


def sides(table: pd.DataFrame, concept: int) -> tuple[list[int], list[int]]:
    """Texts with the concept, and as many of its genre without any."""
    rows = table.reset_index(drop=True)
    with_it = list(rows.index[rows.concept_id == concept])
    genre = rows.concept_genre[with_it[0]]
    without = list(rows.index[(rows.category == "negative") & (rows.concept_genre == genre)])
    return with_it, without[: len(with_it)]


def thinned(tokens: Tensor) -> Tensor:
    """At most ``MOST`` of them, evenly spaced, in float64."""
    step = max(1, int(np.ceil(len(tokens) / MOST)))
    return tokens[::step].double()


if __name__ == "__main__":
    main()
