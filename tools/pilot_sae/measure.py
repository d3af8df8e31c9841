"""How good the pilot's sparse autoencoder is, on dialogues and texts it was not trained on.

python tools/pilot_sae/measure.py --data ../shared/data [--sae build/pilot-sae]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import torch

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("pilot", "sae")]

from corpus import read_corpus
from encoding import Encoder
from recovery import measure
from train import Recipe, dialogues

from tillerman.core.rows import Row
from tillerman.data.samples import sample_texts
from tillerman.models.opened import OpenModel, open_model
from tillerman.models.sae.files import open_sae


def samples(opened: OpenModel, data: Path) -> dict[str, list[Row]]:
    """Held-out dialogues, and the running texts that measure side effects; windows of at most 256 tokens."""
    encoder = Encoder(opened.tokenizer)
    recipe = Recipe(read_at_once=64)
    found = {"dialogues": dialogues(read_corpus(data, "held-out"), encoder, random.Random("measure"), recipe)}
    for name in ("tinystories", "wikitext"):
        rows = [encoder.start(None) + encoder.text(text)[: recipe.window - 1] for text in sample_texts(name)]
        found[name] = [Row(tuple(row), 1) for row in rows]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sae", default="pilot")
    args = parser.parse_args()
    torch.set_num_threads(1)
    opened, sae = open_model("pilot"), open_sae(args.sae)
    for name, rows in samples(opened, args.data).items():
        print(name, json.dumps({k: round(v, 3) for k, v in measure(opened, sae, rows).items()}), flush=True)


if __name__ == "__main__":
    main()
