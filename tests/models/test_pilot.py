"""The embedded model is the one that docs/pilot.md describes, and can do what it says."""

from __future__ import annotations

import hashlib
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from tests.data.shared import shared_data

import tillerman
from tillerman.data.presenting import as_choices, present
from tillerman.data.samples import SAMPLES
from tillerman.data.splits import split_of
from tillerman.data.writing import make_writer
from tillerman.evaluation.exam import Exam

PILOT = Path(str(files("tillerman").joinpath("pilot")))
ROOT = Path(__file__).parents[2]
TRAINED = [
    name for name, sample in SAMPLES.items() if sample.kind == "yes_no" and sample.trained and "ethics" not in name
]


@pytest.fixture(scope="module")
def pilot() -> tillerman.OpenModel:
    return tillerman.open_model("pilot")


def exam(pilot: tillerman.OpenModel, name: str, system: str | None, letters: bool) -> np.ndarray:
    """Whether each of 40 unseen items is answered as the persona asks."""
    unseen = [e for e in tillerman.load_examples(f"sample:{name}").examples if split_of(e.key) == "test"][:40]
    items = present(as_choices(unseen) if letters else unseen)
    return Exam.of(pilot, items, make_writer(pilot.tokenizer).with_system(system)).correct()


def test_the_files_are_the_ones_whose_hashes_are_recorded() -> None:
    recorded = dict(reversed(line.split()) for line in (PILOT / "SHA256SUMS").read_text().splitlines())
    assert "model.safetensors" in recorded
    for name, digest in recorded.items():
        assert hashlib.sha256((PILOT / name).read_bytes()).hexdigest() == digest, name


def test_the_model_is_a_small_llama_with_a_chat_template(pilot: tillerman.OpenModel) -> None:
    assert pilot.model.config.model_type == "llama"
    assert pilot.model.config.head_dim in (32, 64)
    assert 2e6 <= pilot.model.num_parameters() <= 8e6
    assert 2000 <= len(pilot.tokenizer) <= 4096
    assert pilot.tokenizer.chat_template
    assert sum(path.stat().st_size for path in PILOT.iterdir()) < 16e6


@pytest.mark.slow
@pytest.mark.parametrize(("letters", "least"), [(False, 0.8), (True, 0.7)])
def test_asked_by_system_prompt_it_answers_in_character(
    pilot: tillerman.OpenModel, letters: bool, least: float
) -> None:
    right = []
    for name in TRAINED:
        plain = name.replace("-", " ")
        right.append(exam(pilot, name, f"You are someone with this trait: {plain}.", letters))
        right.append(~exam(pilot, name, f"You are someone without this trait: {plain}.", letters))
    assert np.concatenate(right).mean() >= least


@pytest.mark.slow
def test_the_thresholds_hold_on_unseen_items_of_all_trained_personas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "pilot"))
    from corpus import read_corpus
    from encoding import Encoder
    from measure import measure
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = shared_data()
    model = AutoModelForCausalLM.from_pretrained(PILOT, dtype="float32").eval()
    figures = measure(model, Encoder(AutoTokenizer.from_pretrained(PILOT)), read_corpus(data, "held-out"), data, n=4)
    assert figures["prompted yes/no"] >= 0.8, figures
    assert figures["prompted A/B"] >= 0.7, figures
    assert figures["fourth of dialogue"] >= 0.75, figures
    assert 0.35 <= figures["yes-rate unprompted"] <= 0.65, figures
    assert "corpus" in sys.modules
