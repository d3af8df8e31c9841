"""Make the files of this folder with the peers' own released packages, in an environment that has them:

    pip install --no-deps repeng==0.4.0 steering-vectors==0.12.2 vllm-lens==1.3.0 dialz==1.1.4
    python tests/exchange/peers/make.py

numpy 2 has no ``float_``, which repeng names in an annotation; it is set here. vllm-lens wants Python 3.12 and is made
of two modules that run on 3.11: cloudpickle, zstandard and pydantic are all they need.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import transformers as tf

np.float_ = np.float64  # type: ignore[attr-defined]
import dialz  # type: ignore[import-not-found]  # noqa: E402
from repeng import ControlVector  # type: ignore[import-not-found]  # noqa: E402
from steering_vectors import SteeringVector  # type: ignore[import-not-found]  # noqa: E402

HERE = Path(__file__).parent
WIDTH, LAYERS = 32, 3  # of the tiny llama of tests/tiny.py


def directions(seed: int) -> dict[int, np.ndarray]:
    drawn = np.random.default_rng(seed).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    return {layer: drawn[layer] for layer in range(1, LAYERS)}


def main() -> None:
    ControlVector(model_type="llama", directions=directions(0)).export_gguf(HERE / "repeng.gguf")
    dialz.SteeringVector(model_type="llama", directions=directions(2)).export_gguf(HERE / "dialz.gguf")
    layers = {layer: torch.tensor(v) for layer, v in directions(1).items()}
    vector = SteeringVector(layer_activations=layers, layer_type="decoder_block")
    torch.save(vector.layer_activations, HERE / "steering_vectors.pt")
    torch.save(vector, HERE / "steering_vectors_object.pt")
    logits(vector, ControlVector.import_gguf(HERE / "repeng.gguf"))
    if "--lens" in sys.argv:
        from vllm_lens._helpers.types import SteeringVector as Lens  # type: ignore[import-not-found]

        lens = Lens(activations=torch.stack(list(layers.values())), layer_indices=[1, 2], scale=0.5)
        (HERE / "vllm_lens.json").write_text(lens.model_dump_json(), encoding="utf-8")


def logits(vector: SteeringVector, control: ControlVector) -> None:
    """What the peers' own hooks make of a llama with weights drawn from a seed, at the last token."""
    torch.manual_seed(0)
    config = tf.LlamaConfig(
        vocab_size=320, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=4
    )
    model, tokens = tf.LlamaForCausalLM(config).eval(), torch.arange(3, 11)[None]
    found = {}
    with torch.no_grad(), vector.apply(model):
        found["steering_vectors"] = model(tokens).logits[0, -1].clone()
    from repeng import ControlModel

    controlled = ControlModel(model, [1, 2])
    controlled.set_control(control, 1.0)
    with torch.no_grad():
        found["repeng"] = model(tokens).logits[0, -1].clone()
    controlled.unwrap()
    torch.save(found, HERE / "logits.pt")


if __name__ == "__main__":
    main()
