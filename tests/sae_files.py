"""Autoencoders in every file format, small enough to compute by hand: two coordinates, three atoms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from tillerman.core.hookpoint import HookPoint
from tillerman.models.sae.autoencoder import SAE, JumpRelu

W_ENC = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])
B_ENC = torch.tensor([0.0, -1.0, 0.5])
W_DEC = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
B_DEC = torch.tensor([0.5, -0.5])
PLAIN = {"W_enc": W_ENC, "b_enc": B_ENC, "W_dec": W_DEC, "b_dec": B_DEC}


def saelens(folder: Path, facts: dict, tensors: dict | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(facts))
    given = PLAIN if tensors is None else tensors
    save_file({name: t.contiguous() for name, t in given.items()}, folder / "sae_weights.safetensors")
    return folder


def v6(**facts: object) -> dict:
    """The configuration since version 6."""
    metadata = {"hook_name": "blocks.1.hook_resid_post", "sae_lens_version": "6.0.0"}
    return {"architecture": "standard", "d_in": 2, "d_sae": 3, "dtype": "float32", "metadata": metadata, **facts}


def flat(**facts: object) -> dict:
    """The configuration before version 6."""
    return {"d_in": 2, "d_sae": 3, "dtype": "float32", "hook_point": "blocks.1.hook_resid_post", **facts}


def gemmascope(folder: Path, threshold: float = 1.0, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {**PLAIN, "threshold": torch.full((3,), threshold), **changes}
    np.savez(folder / "params.npz", **{k: t.numpy() for k, t in arrays.items() if t is not None})
    return folder


def gemmascope2(folder: Path, threshold: float = 1.0, **facts: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name.lower(): tensor for name, tensor in PLAIN.items()} | {"threshold": torch.full((3,), threshold)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "params.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": "jump_relu", **facts}))
    return folder


def llamascope(folder: Path, norms: tuple[float, float], threshold: float, **facts: object) -> Path:
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    given = {
        "d_model": 2,
        "d_sae": 3,
        "act_fn": "jumprelu",
        "jump_relu_threshold": threshold,
        "norm_activation": "dataset-wise",
        "hook_point_in": "blocks.1.hook_resid_post",
        "dataset_average_activation_norm": {"in": norms[0], "out": norms[1]},
        **facts,
    }
    (folder / "hyperparams.json").write_text(json.dumps(given))
    tensors = {"encoder.weight": W_ENC.T, "encoder.bias": B_ENC, "decoder.weight": W_DEC.T, "decoder.bias": B_DEC}
    save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "checkpoints/final.safetensors")
    return folder


def qwenscope(folder: Path, layer: int = 1, active: int = 3) -> Path:
    folder = folder / f"SAE-Res-Tiny-W3-L0_{active}"
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {**PLAIN, "W_enc": W_ENC.T.contiguous(), "W_dec": W_DEC.T.contiguous()}
    torch.save(tensors, folder / f"layer{layer}.sae.pt")
    return folder


def orthogonal(width: int, atoms: int, layer: int = 1, threshold: float = 0.5, seed: int = 0) -> SAE:
    """Atoms at right angles, each read by its own row: activations are coordinates along the atoms."""
    drawn = torch.randn(width, width, generator=torch.Generator().manual_seed(seed))
    basis = torch.linalg.qr(drawn).Q[:, :atoms].T.contiguous()
    activation = JumpRelu(torch.zeros(atoms), torch.full((atoms,), threshold))
    return SAE("made", HookPoint(layer), basis.T.contiguous(), basis, torch.zeros(width), activation)


def basis(width: int, layer: int = 1) -> SAE:
    """The coordinates and their opposites as atoms: explains every activation, whatever the model."""
    both = torch.cat([torch.eye(width), -torch.eye(width)])
    activation = JumpRelu(torch.zeros(2 * width), torch.zeros(2 * width))
    return SAE("basis", HookPoint(layer), both.T.contiguous(), both, torch.zeros(width), activation)


def write_saelens(sae: SAE, folder: Path) -> Path:
    assert isinstance(sae.activation, JumpRelu)
    tensors = {
        "W_enc": sae.w_enc,
        "W_dec": sae.w_dec,
        "b_dec": sae.b_dec,
        "b_enc": sae.activation.bias,
        "threshold": sae.activation.threshold,
    }
    name = f"blocks.{sae.point.layer}.hook_{sae.point.site}"
    facts = {"architecture": "jumprelu", "apply_b_dec_to_input": sae.centred, "metadata": {"hook_name": name}}
    return saelens(folder, facts, tensors)
