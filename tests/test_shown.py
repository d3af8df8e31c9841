"""What values show of themselves at a prompt and in a notebook: short, escaped, and about the right things."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

import tillerman
from tillerman.core.atoms import Atom
from tillerman.core.gates import ProbeGate, SimilarityGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.shown import LONGEST, Shown, clipped
from tillerman.core.steerings.vector import SteeringVector
from tillerman.data.loading import LoadedData

from . import tiny
from .core.test_kinds import EXAMPLES as KINDS

WIDE = 4096
POINTS = [HookPoint(layer) for layer in range(64)]


def wide() -> SteeringVector:
    made = tiny.provenance(width=WIDE, options={f"option {i}": "x" * 50 for i in range(200)}, data_name="é" * 3000)
    return SteeringVector({p: torch.randn(WIDE) for p in POINTS}, dict.fromkeys(POINTS, 1.0), made)


@pytest.fixture(scope="module")
def outcome():
    experiment = tillerman.Experiment(
        max_kl=None,
        max_perplexity_ratio=None,
        method="caa",
        layers=(3,),
        doses=(0.3,),
        max_train=30,
        max_validation=10,
        max_test=20,
        neutral_tokens=512,
        unrelated_items=8,
    )
    return tillerman.fit(experiment, tillerman.open_model("pilot"), tillerman.load_examples("sample:agreeableness"))


def values(outcome) -> dict[str, Shown]:
    vector, artefact = wide(), outcome.artefact
    opened = tillerman.open_model("pilot")
    with tillerman.steer(opened, artefact) as steered:
        opened.model(input_ids=torch.tensor([[5, 6, 7]]))
        opened.model.generate(torch.tensor([[*range(20)]]), max_new_tokens=1)
    items = tillerman.load_examples("sample:agreeableness")
    gate = SimilarityGate(torch.randn(WIDE), HookPoint(0), 0.5)
    return {
        **{name: make() for name, make in KINDS.items()},
        "wide vector": vector,
        "provenance": vector.provenance,
        "intervention": tillerman.Intervention(vector, 0.3, gate=gate),
        "similarity": gate,
        "probe": ProbeGate(torch.randn(WIDE), 0.1, HookPoint(0)),
        "atom": Atom(torch.randn(WIDE), 0.5, 0.0),
        "artefact": artefact,
        "card": artefact.card,
        "outcome": outcome,
        "model": opened,
        "parts": opened.parts,
        "data": items,
        "big data": replace(items, examples=items.examples * 50),
        "examples": items.examples,
        "example": items.examples[0],
        "long example": replace(items.examples[0], question="why? " * 5000),
        "receipt": steered.receipt,
        "long receipt": replace(steered.receipt, applied=steered.receipt.applied * 500),
        "sae": tillerman.open_sae("pilot"),
    }


class Rows(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_no_value_shows_more_than_a_kilobyte_and_each_names_its_class(outcome):
    for name, value in values(outcome).items():
        line = repr(value)
        assert len(line.encode()) <= LONGEST, name
        assert "\n" not in line and line.startswith(f"<{type(value).__name__} | "), name
        assert isinstance(value, Shown), name


def test_a_notebook_gets_a_small_table_of_the_same_facts_without_style_or_script(outcome):
    for name, value in values(outcome).items():
        page = Rows()
        page.feed(value._repr_html_())
        assert set(page.tags) == {"table", "caption", "tbody", "tr", "th", "td"}, name
        assert all(label in page.text for label in value.shown()), name
        assert len(value._repr_html_()) < 8000, name


def test_what_is_shown_is_what_one_asks_first(outcome):
    artefact = repr(outcome.artefact)
    assert "method: caa" in artefact and "data: agreeableness" in artefact and "layers.3.resid_post" in artefact
    effect = outcome.log.effect
    assert f"effect {100 * effect.value:+.0f} pp" in artefact and f"on {effect.n} items" in artefact
    assert re.search(r"\| items: \d+ train, \d+ validation, 20 test>", repr(outcome))
    bare = replace(outcome.artefact, card=None)
    assert "measured: nothing yet" in repr(bare)
    model = repr(tillerman.open_model("pilot"))
    assert "id: pilot" in model and "layers: 0..7" in model and "width: 128" in model and "LlamaForCausalLM" in model


def test_text_of_the_data_cannot_become_a_tag():
    one = tillerman.Example("choice", "<script>alert(1)</script>", ("<b>a</b>", "b & c"), 0)
    data = LoadedData((one,), "<i>name</i>", "choice", "0", ())
    for value in (one, data):
        page = Rows()
        page.feed(value._repr_html_())
        assert not {"script", "b", "i"} & set(page.tags)
        assert "<script>alert(1)</script>" in page.text


class Long(Shown):
    def shown(self) -> Mapping[str, object]:
        return {f"fact {i}": "\u20ac" * 500 for i in range(20)}


def test_many_long_facts_are_cut_at_a_whole_letter():
    line = repr(Long())
    assert len(line.encode()) <= LONGEST and line.endswith("...>")
    assert clipped("a  b\nc", 10) == "a b c" and clipped("abcdefgh", 5) == "ab..."
