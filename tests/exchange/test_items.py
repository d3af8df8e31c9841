"""The items that an export is measured on: the artefact's own, where they are at hand, else a word for what to give."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tillerman
from tillerman.core.errors import UsageError
from tillerman.exchange.items import own_data

from .. import tiny

SAMPLE = "interest-in-science"


def artefact_of(name: str, digest: str) -> tillerman.Artefact:
    vector = tiny.vector(1)
    made = replace(vector.provenance, data_name=name, data_digest=digest)
    return tillerman.Artefact(replace(vector, provenance=made), tillerman.Cell.of(vector))


def test_the_items_of_an_embedded_sample_are_found() -> None:
    data = tillerman.load_examples(f"sample:{SAMPLE}")
    assert own_data(artefact_of(SAMPLE, data.digest)).digest == data.digest


@pytest.mark.parametrize(
    ("name", "says"),
    [(SAMPLE, f"--data sample:{SAMPLE}"), ("mine", r"\(mine\) are not embedded here; give them: --data FILE")],
)
def test_items_that_are_not_at_hand_are_asked_for_by_a_name_that_works(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        own_data(artefact_of(name, "of a part"))
