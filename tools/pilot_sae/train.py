"""Train the pilot's sparse autoencoder from the texts that trained the pilot. One command, seeded:

python tools/pilot_sae/train.py --data ../shared/data --out build/pilot-sae

BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): the k * b largest activations of a batch of b tokens are
kept. At the end the smallest kept one, averaged over batches, becomes the threshold of a JumpReLU, so
that a token is encoded without its neighbours. Written in the layout of SAELens, in bf16.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "pilot"))

from corpus import Corpus, Stage, document, read_corpus
from encoding import Encoder

from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.models.opened import OpenModel, open_model
from tillerman.models.tokens import token_activations


@dataclass(frozen=True)
class Recipe:
    point: HookPoint = HookPoint(3)  # noqa: RUF009 (a frozen value): where steering the pilot works best
    atoms: int = 1024
    active: int = 16  # per token, in the mean of a batch
    batch: int = 1024  # tokens
    steps: int = 3000
    read_at_once: int = 128  # windows whose tokens are mixed
    window: int = 256
    lr: float = 2e-3
    warmup: int = 100
    decay_from: float = 0.6
    dead_after: int = 150  # batches without firing
    revived: int = 64  # dead atoms per token that learn from what is left over,
    revive_weight: float = 1 / 32  # and the weight of that loss
    seed: int = 20261121

    def lr_scale(self, step: int) -> float:
        left = (self.steps - step) / (self.steps * (1 - self.decay_from))
        return min(1.0, (step + 1) / self.warmup, left)


class Autoencoder(torch.nn.Module):
    """``x`` is an activation divided by ``scale``, so that its mean square norm is the width."""

    def __init__(self, recipe: Recipe, first: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(recipe.seed)
        width = first.shape[1]
        decoder = torch.randn(recipe.atoms, width, generator=generator)
        self.scale = float(first.square().mean().sqrt())
        self.w_dec = torch.nn.Parameter(decoder / decoder.norm(dim=1, keepdim=True))
        self.w_enc = torch.nn.Parameter(self.w_dec.detach().T.clone())
        self.b_enc = torch.nn.Parameter(torch.zeros(recipe.atoms))
        self.b_dec = torch.nn.Parameter(first.mean(0) / self.scale)
        self.threshold = 0.0
        self.idle = torch.zeros(recipe.atoms)  # batches since an atom fired

    def loss(self, x: Tensor, recipe: Recipe) -> Tensor:
        pre = ((x - self.b_dec) @ self.w_enc + self.b_enc).relu()
        least = pre.detach().flatten().topk(recipe.active * len(x), sorted=False).values.min()
        kept = pre * (pre >= least)
        self.threshold = 0.99 * self.threshold + 0.01 * float(least) if self.threshold else float(least)
        self.idle = torch.where((kept.detach() > 0).any(0), 0.0, self.idle + 1)
        left = x - (kept @ self.w_dec + self.b_dec)
        spread = (x - x.mean(0)).square().mean()
        return left.square().mean() / spread + recipe.revive_weight * self._revival(x, left.detach(), recipe)

    def _revival(self, x: Tensor, left: Tensor, recipe: Recipe) -> Tensor:
        """Dead atoms reconstruct what the living leave over (Gao et al. 2024, arXiv 2406.04093, section A.2)."""
        dead = (self.idle > recipe.dead_after).nonzero()[:, 0]
        if not len(dead):
            return x.new_zeros(())
        pre = (x - self.b_dec.detach()) @ self.w_enc[:, dead] + self.b_enc[dead]
        top = pre.topk(min(recipe.revived, len(dead)), dim=1)
        kept = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
        return (left - kept @ self.w_dec[dead]).square().mean() / left.square().mean()

    @torch.no_grad()
    def unit_atoms(self) -> None:
        self.w_dec /= self.w_dec.norm(dim=1, keepdim=True)

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """On the scale of the stream: ``scale`` is folded in."""
        plain = {
            "W_enc": self.w_enc,
            "b_enc": self.scale * self.b_enc,
            "W_dec": self.w_dec,
            "b_dec": self.scale * self.b_dec,
            "threshold": torch.full((len(self.b_enc),), self.scale * self.threshold),
        }
        return {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in plain.items()}


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
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.lr, betas=(0.9, 0.999))
    started = time.monotonic()
    for step in range(recipe.steps):
        optimiser.param_groups[0]["lr"] = recipe.lr * recipe.lr_scale(step)
        loss = model.loss(next(source) / model.scale, recipe)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        model.unit_atoms()
        if step % 100 == 0 or step == recipe.steps - 1:
            dead = int((model.idle > recipe.dead_after).sum())
            print(
                f"{step} loss {float(loss.detach()):.4f} dead {dead} threshold {model.threshold:.3f} "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )
    return model


def write(model: Autoencoder, recipe: Recipe, opened: OpenModel, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    save_file(model.weights(), out / "sae_weights.safetensors")
    facts = {
        "architecture": "jumprelu",
        "d_in": opened.parts.width,
        "d_sae": recipe.atoms,
        "dtype": "bfloat16",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {
            "hook_name": f"blocks.{recipe.point.layer}.hook_resid_post",
            "model_name": "tillerman/pilot",
            "trained_with": f"BatchTopK, k {recipe.active}, {recipe.steps * recipe.batch} tokens",
        },
    }
    (out / "cfg.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    args = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe(steps=args.steps)
    opened = open_model("pilot")
    write(train(opened, read_corpus(args.data, "seen"), recipe), recipe, opened, args.out)


if __name__ == "__main__":
    main()
