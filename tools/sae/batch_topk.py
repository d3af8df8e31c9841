"""A BatchTopK autoencoder that learns: what the recipes of the pilot's and of a real model's have in common.

BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): the k * b largest activations of a batch of b tokens are
kept. At the end the smallest kept one, averaged over batches, becomes the threshold of a JumpReLU, so
that a token is encoded without its neighbours. Written in the layout of SAELens, in bf16.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tillerman.core.hookpoint import HookPoint


@dataclass(frozen=True)
class Learning:
    atoms: int
    active: int  # per token, in the mean of a batch
    batch: int  # tokens
    steps: int
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

    def __init__(self, learning: Learning, first: Tensor) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(learning.seed)
        width = first.shape[1]
        decoder = torch.randn(learning.atoms, width, generator=generator)
        self.scale = float(first.square().mean().sqrt())
        self.w_dec = torch.nn.Parameter(decoder / decoder.norm(dim=1, keepdim=True))
        self.w_enc = torch.nn.Parameter(self.w_dec.detach().T.clone())
        self.b_enc = torch.nn.Parameter(torch.zeros(learning.atoms))
        self.b_dec = torch.nn.Parameter(first.mean(0) / self.scale)
        self.threshold = 0.0
        self.idle = torch.zeros(learning.atoms)  # batches since an atom fired

    def loss(self, x: Tensor, learning: Learning) -> Tensor:
        pre = ((x - self.b_dec) @ self.w_enc + self.b_enc).relu()
        least = pre.detach().flatten().topk(learning.active * len(x), sorted=False).values.min()
        kept = pre * (pre >= least)
        self.threshold = 0.99 * self.threshold + 0.01 * float(least) if self.threshold else float(least)
        self.idle = torch.where((kept.detach() > 0).any(0), 0.0, self.idle + 1)
        left = x - (kept @ self.w_dec + self.b_dec)
        spread = (x - x.mean(0)).square().mean()
        return left.square().mean() / spread + learning.revive_weight * self._revival(x, left.detach(), learning)

    def _revival(self, x: Tensor, left: Tensor, learning: Learning) -> Tensor:
        """Dead atoms reconstruct what the living leave over (Gao et al. 2024, arXiv 2406.04093, section A.2)."""
        dead = (self.idle > learning.dead_after).nonzero()[:, 0]
        if not len(dead):
            return x.new_zeros(())
        pre = (x - self.b_dec.detach()) @ self.w_enc[:, dead] + self.b_enc[dead]
        top = pre.topk(min(learning.revived, len(dead)), dim=1)
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


def optimiser_of(model: Autoencoder, learning: Learning) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=learning.lr, betas=(0.9, 0.999))


def learn(model: Autoencoder, optimiser: torch.optim.Optimizer, step: int, x: Tensor, learning: Learning) -> float:
    """One step on activations ``[batch, d]``; the loss before it."""
    optimiser.param_groups[0]["lr"] = learning.lr * learning.lr_scale(step)
    loss = model.loss(x / model.scale, learning)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    model.unit_atoms()
    return float(loss.detach())


def write(model: Autoencoder, learning: Learning, point: HookPoint, model_name: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    save_file(model.weights(), out / "sae_weights.safetensors")
    facts = {
        "architecture": "jumprelu",
        "d_in": model.w_enc.shape[0],
        "d_sae": learning.atoms,
        "dtype": "bfloat16",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {
            "hook_name": f"blocks.{point.layer}.hook_resid_post",
            "model_name": model_name,
            "trained_with": f"BatchTopK, k {learning.active}, {learning.steps * learning.batch} tokens",
        },
    }
    (out / "cfg.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
