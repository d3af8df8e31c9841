"""Train a sparse autoencoder on the residual stream of a real model, and measure how good it is.

    python tools/real_models/sae.py OUT --model smollm2=FOLDER --data ../shared/data [--tokens 240000 --steps 400]

Some minutes of one thread on SmolLM2. Three stages, each of which goes on where it was interrupted: the texts
of ``sae_texts.py`` are read once and their activations kept (OUT/read, 1.2 kB a token), an autoencoder learns from them
over several rounds (OUT/learning.pt), and its quality on other texts is measured (OUT/quality.json). OUT itself is then
what ``--sae`` takes. ``--add`` takes the figures into the repository (``benchmarks/real_models/sae.json``), not the
weights: 4.7 MB of them belong into no package, and the recipe makes them again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "sae"))

from batch_topk import Autoencoder, Learning, learn, optimiser_of, write
from recovery import measure
from sae_texts import measuring_rows, training_rows

import tillerman
from tillerman.core.files import write_text
from tillerman.core.hookpoint import HookPoint
from tillerman.models.opened import OpenModel
from tillerman.models.sae.files import open_sae
from tillerman.models.tokens import token_activations

LOGS = Path(__file__).resolve().parents[2] / "benchmarks" / "real_models"
ROWS = 64  # read at once, and kept as one file
SAVED = 100  # steps between two checkpoints


@dataclass(frozen=True)
class Recipe(Learning):
    """At half depth, one of the layers that ``behaviours.py`` measures."""

    atoms: int = 2048
    active: int = 48
    batch: int = 1024
    steps: int = 400
    lr: float = 1e-3
    layer: int = 16
    tokens: int = 240_000

    @property
    def point(self) -> HookPoint:
        return HookPoint(self.layer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", required=True, metavar="NAME=MODEL")
    parser.add_argument("--data", type=Path, required=True, help="folder with the files of sae_texts.py")
    parser.add_argument("--layer", type=int, default=Recipe.layer)
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--add", action="store_true", help="take the figures into the repository")
    given = parser.parse_args()
    torch.set_num_threads(1)
    name, _, source = given.model.partition("=")
    recipe = Recipe(layer=given.layer, tokens=given.tokens, steps=given.steps)
    opened = tillerman.open_model(source, dtype=torch.bfloat16)
    given.out.mkdir(parents=True, exist_ok=True)
    made = made_of(name, opened, recipe, given.data, given.out)
    if given.add:
        write_text(LOGS / "sae.json", json.dumps(made, indent=1) + "\n")


def made_of(name: str, opened: OpenModel, recipe: Recipe, data: Path, out: Path) -> dict[str, object]:
    """The figures; the autoencoder lies in ``out``."""
    kept = out / "quality.json"
    asked = {"model": name, "recipe": asdict(recipe)}
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    if asked.items() <= known.items():
        return known
    read = read_all(opened, recipe, data, out / "read" / f"{recipe.layer}-{recipe.tokens}-{recipe.seed}")
    model, curve, seconds = train(read, recipe, out / "learning.pt")
    write(model, recipe, recipe.point, opened.id, out)
    sae, began = open_sae(out), time.process_time()
    found = {kind: measure(opened, sae, rows) for kind, rows in measuring_rows(opened, data).items()}
    made = asked | {
        "quality": {kind: {k: round(v, 4) for k, v in one.items()} for kind, one in found.items()},
        "curve": curve,
        "tokens_read": len(read),
        "cpu_seconds": {
            "reading": _seconds(out / "read" / "seconds"),
            "learning": round(seconds),
            "measuring": round(time.process_time() - began),
        },
    }
    write_text(kept, json.dumps(made, indent=1) + "\n")
    shutil.rmtree(out / "read")
    (out / "learning.pt").unlink()
    return made


def read_all(opened: OpenModel, recipe: Recipe, data: Path, folder: Path) -> Tensor:
    """Activations ``[tokens, d]`` in bf16, of single tokens without their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, seconds = [], folder.parent / "seconds"
    rows = training_rows(opened, data, recipe.tokens, recipe.seed)
    for number, start in enumerate(range(0, len(rows), ROWS)):
        file = folder / f"{number:04}.pt"
        if not file.exists():
            began = time.process_time()
            found = [values for _, values in token_activations(opened, rows[start : start + ROWS], recipe.point)]
            making = file.with_suffix(".part")
            torch.save(torch.cat(found).to(torch.bfloat16), making)
            making.rename(file)
            write_text(seconds, str(_seconds(seconds) + time.process_time() - began))
            print(f"read {min(start + ROWS, len(rows))} of {len(rows)} rows", flush=True)
        parts.append(torch.load(file, weights_only=True))
    return torch.cat(parts)


def train(
    read: Tensor, recipe: Recipe, file: Path, saved: int = SAVED, tell: Callable[[str], None] = print
) -> tuple[Autoencoder, list[dict[str, float]], float]:
    """The autoencoder, how it went, and CPU seconds. Each round goes over all tokens in an order of its own."""
    model = Autoencoder(recipe, read[: 16 * recipe.batch].float())
    optimiser = optimiser_of(model, recipe)
    state: dict[str, Any] = {"recipe": asdict(recipe), "step": 0, "curve": [], "seconds": 0.0}
    if file.exists() and (kept := torch.load(file, weights_only=True))["recipe"] == state["recipe"]:
        state = kept
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        model.idle, model.threshold = state["idle"], state["threshold"]
    curve, per_round = state["curve"], len(read) // recipe.batch
    began, order = time.process_time() - state["seconds"], None
    for step in range(state["step"], recipe.steps):
        turn, at = divmod(step, per_round)
        if order is None or not at:
            order = torch.randperm(len(read), generator=torch.Generator().manual_seed(recipe.seed + turn))
        x = read[order[at * recipe.batch : (at + 1) * recipe.batch]].float()
        loss = learn(model, optimiser, step, x, recipe)
        if (step + 1) % saved == 0 or step + 1 == recipe.steps:
            dead = int((model.idle > recipe.dead_after).sum())
            curve.append({"step": step + 1, "loss": round(loss, 4), "dead": dead})
            learnt = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "idle": model.idle}
            now = {"step": step + 1, "curve": curve, "seconds": time.process_time() - began}
            making = file.with_suffix(".part")
            torch.save({**state, **now, **learnt, "threshold": model.threshold}, making)
            making.rename(file)
            tell(f"step {step + 1} of {recipe.steps}: loss {loss:.4f}, {dead} dead")
    return model, curve, time.process_time() - began


def _seconds(file: Path) -> float:
    return round(float(file.read_text()), 1) if file.exists() else 0.0


if __name__ == "__main__":
    main()
