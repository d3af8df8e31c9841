"""Train the pilot's sparse autoencoder from the texts that trained the pilot. One command, seeded:

python tools/pilot_sae/train.py --data ../shared/data --out build/pilot-sae
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("pilot", "sae")]

from batch_topk import Autoencoder, Learning, learn, optimiser_of, write
from corpus import Corpus, Stage, document, read_corpus
from encoding import Encoder

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.models.opened import OpenModel, open_model
from tillerman.models.tokens import token_activations


@dataclass(frozen=True)
class Recipe(Learning):
    atoms: int = 1024
    active: int = 16
    batch: int = 1024
    steps: int = 3000
    point: HookPoint = HookPoint(3)  # noqa: RUF009 (a frozen value): where steering the pilot works best
    read_at_once: int = 128  # windows whose tokens are mixed
    window: int = 256


def batches(opened: OpenModel, corpus: Corpus, recipe: Recipe) -> Iterator[Tensor]:
    """Activations ``[batch, d]`` of mixed tokens, without padding and without each dialogue's first token."""
    encoder = Encoder(opened.tokenizer)
    for number in range(10**9):
        rng = random.Random(f"{recipe.seed} {number}")
        found = tokens_of(opened, dialogues(corpus, encoder, rng, recipe), recipe.point)
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(rng.getrandbits(32)))
        mixed = found[order]
        yield from mixed[: len(mixed) // recipe.batch * recipe.batch].split(recipe.batch)


def dialogues(corpus: Corpus, encoder: Encoder, rng: random.Random, recipe: Recipe) -> list[Row]:
    """Dialogues as the pilot saw them at the end of its training."""
    stage = Stage(p_one_sided=0.2)
    rows = []
    for _ in range(recipe.read_at_once):
        system, turns = document(corpus, rng, stage)
        tokens, weights = encoder.window(system, turns, recipe.window)
        rows.append(Row(tuple(t for t, w in zip(tokens, weights, strict=True) if w > 0), 1))
    return rows


def tokens_of(opened: OpenModel, rows: list[Row], point: HookPoint) -> Tensor:
    return torch.cat([values for _, values in token_activations(opened, rows, point)])


def train(opened: OpenModel, corpus: Corpus, recipe: Recipe) -> Autoencoder:
    source = batches(opened, corpus, recipe)
    model = Autoencoder(recipe, next(source))
    optimiser = optimiser_of(model, recipe)
    started = time.monotonic()
    for step in range(recipe.steps):
        loss = learn(model, optimiser, step, next(source), recipe)
        if step % 100 == 0 or step == recipe.steps - 1:
            dead = int((model.idle > recipe.dead_after).sum())
            print(
                f"{step} loss {loss:.4f} dead {dead} threshold {model.threshold:.3f} "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(steps=args.steps)
    opened = open_model("pilot")
    write(train(opened, read_corpus(args.data, "seen"), recipe), recipe, recipe.point, "tillerman/pilot", args.out)


if __name__ == "__main__":
    main()
