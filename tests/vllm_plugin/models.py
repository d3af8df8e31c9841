"""Tiny models of five families with heads of the width that vLLM has kernels for, and artefacts for them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import transformers as tf

from tillerman.core.artefact import Artefact, save
from tillerman.core.atoms import Atom
from tillerman.core.cell import Cell
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.core.provenance import Provenance
from tillerman.core.steerings.vector import SteeringVector

WIDTH, LAYERS, VOCAB, HEAD = 64, 3, 1000, 32
MARKER = (7, 8)
_IDS = {"vocab_size": VOCAB, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SIZE = {
    "hidden_size": WIDTH,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,
}
FAMILIES = {  # llama last: its engine goes on to other tests
    "qwen3": lambda: tf.Qwen3Config(**_IDS, **_SIZE, head_dim=HEAD),
    "gemma3": lambda: tf.Gemma3TextConfig(**_IDS, **_SIZE, head_dim=HEAD, sliding_window=32),
    "mixtral": lambda: tf.MixtralConfig(**_IDS, **_SIZE, num_local_experts=4, num_experts_per_tok=2),
    "gpt2": lambda: tf.GPT2Config(
        **_IDS, n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_positions=512, initializer_range=0.1
    ),
    "llama": lambda: tf.LlamaConfig(**_IDS, **_SIZE),
}
POINTS = {
    "a": (HookPoint(1),),
    "b": (HookPoint(0), HookPoint(2)),
    "c": (HookPoint(2, "resid_pre"),),
    "d": (HookPoint(1),),
    "e": (HookPoint(1), HookPoint(2)),
    "f": (HookPoint(2),),
}
OPERATORS = {"d": "ablate", "e": "clamp", "f": "clamp_atom"}  # the others add; nothing reads the stream at block 0


def model(family: str) -> tf.PreTrainedModel:
    torch.manual_seed(0)
    made: tf.PreTrainedModel = tf.AutoModelForCausalLM.from_config(FAMILIES[family]()).float().eval()
    return made


def vector(name: str) -> SteeringVector:
    generator = torch.Generator().manual_seed(ord(name))
    provenance = Provenance("tiny", "by hand", WIDTH, LAYERS, "tok", "tpl", "none", "caa")
    directions = {point: 0.3 * torch.randn(WIDTH, generator=generator) for point in POINTS[name]}
    operator = OPERATORS.get(name, "add")
    atoms = {point: Atom(v.flip(0), 0.1, -0.2) for point, v in directions.items()} if operator == "clamp_atom" else {}
    return SteeringVector(directions, dict.fromkeys(POINTS[name], 8.0), provenance, atoms, operator)


def write_artefacts(folder: Path) -> dict[str, str]:
    """Files of all vectors; name -> digest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in POINTS:
        made = vector(name)
        save(folder / f"{name}.safetensors", Artefact(made, Cell.of(made)))
    return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.safetensors"))}


def prompts() -> list[list[int]]:
    """Ten prompts with beginnings in common, the marker in most of them."""
    base = torch.randint(9, VOCAB, (96,), generator=torch.Generator().manual_seed(7)).tolist()
    base[3:5] = base[20:22] = list(MARKER)
    return [base[:length] for length in (5, 40, 41, 64, 90, 33, 17, 96, 40, 70)]


Asked = tuple[tuple[str, float, Scope], ...]
PLANS: tuple[Asked, ...] = (
    (),
    (("a", 1.0, Scope()),),
    (("b", 0.8, Scope("generated")),),
    (("a", -0.5, Scope("prompt")), ("b", 0.6, Scope("last"))),
    (("c", 1.0, Scope("after_instruction", marker=MARKER)),),
    (("a", 1.0, Scope("last")), ("a", 0.2, Scope("generated")), ("c", 1.0, Scope())),
    (("a", 0.0, Scope()),),
    (("b", 1.0, Scope("positions", positions=(0, 3, -1, 40))),),
    (("d", 1.0, Scope()), ("a", 1.0, Scope()), ("e", 0.7, Scope("generated"))),  # operators do not commute
    (("e", 1.0, Scope("after_instruction", marker=MARKER)), ("f", 2.0, Scope("prompt")), ("d", 0.6, Scope("last"))),
)


def plan(asked: Asked) -> Plan:
    return tuple(
        Intervention(vector(name), strength, OPERATORS.get(name, "add"), scope) for name, strength, scope in asked
    )
