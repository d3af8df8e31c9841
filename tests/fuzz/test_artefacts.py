"""The fuzzer over artefacts and logs, in the size that CI has time for; ``tests.fuzz.artefacts`` runs larger ones."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import pytest

import tillerman
from tillerman.core.artefact import save

from . import artefacts, mutants


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_mutant_ends_in_a_traceback_or_is_read_as_another_vector(seed: int, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about types that a mutant has
        ends, faults = artefacts.fuzz(1000, seed, tmp_path)
    assert faults == []
    assert min(ends["ArtefactError"], ends["LogError"], ends["artefact read"], ends["log read"]) >= 20, ends


def test_the_fuzzer_notices_a_changed_vector_and_a_traceback(tmp_path: Path) -> None:
    one, other, *_ = artefacts.subjects()
    path = tmp_path / "a.safetensors"
    save(path, one)
    assert artefacts._artefact_again(path, tillerman.load(path), resealed=False) == "artefact read"
    with pytest.raises(AssertionError, match="without a word"):
        artefacts._artefact_again(path, other, resealed=False)
    end, fault = artefacts._tried(lambda: {}["missing"], path, tillerman.ArtefactError)
    assert end == "traceback" and "KeyError" in fault


def test_the_same_seed_makes_the_same_mutants() -> None:
    value = {"a": [1, {"b": "text"}], "c": None}
    for make, whole in ((mutants.of_json, value), (mutants.of_bytes, bytes(range(200)))):
        drawn = [[repr(make(whole, random.Random(seed))) for seed in range(30)] for _ in range(2)]
        assert drawn[0] == drawn[1] and len(set(drawn[0])) > 20
    assert value == {"a": [1, {"b": "text"}], "c": None}
