"""Convention and sign are found by what the vector does to labelled items, and where they cannot be, nobody guesses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tillerman.core.errors import HookPointError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.exchange.found import Found
from tillerman.exchange.items import exam_of
from tillerman.exchange.placing import Placing
from tillerman.exchange.semantic import FileReading, best, readings
from tillerman.statistics.estimates import mean_effect

from .. import planted, tiny

HEEDS = torch.zeros(tiny.WIDTH)
HEEDS[planted.TRAIT] = 1.0  # makes the teller heed the words, where it comes before block 1


@pytest.fixture(scope="module")
def exam():
    opened = planted.teller()
    data = planted.signed(0, 24)
    return exam_of(opened, opened.provenance("imported", name=data.name, site="resid_post"), data)


def test_the_convention_and_the_sign_are_found_under_which_the_vector_does_what_is_said(exam):
    """At the output of block 1 it comes too late: number 1 counts as an index into hidden_states."""
    for sign in (1.0, -1.0):
        tried = readings(exam, Found("a table", {1: sign * HEEDS}), Placing(), dose=2.0)
        found = best(tried)
        assert (found.convention, found.sign, set(found.directions)) == ("input", sign, {HookPoint(0)})
        assert len(tried) == 4 and found.effect.interval.low > 0


def reading(convention: str, layer: int, leads: np.ndarray) -> FileReading:
    return FileReading(convention, 1.0, {HookPoint(layer): HEEDS}, leads, mean_effect(leads, np.zeros(len(leads))))


def test_readings_that_do_the_same_are_not_chosen_between():
    """One block further the same vector mostly does nearly the same."""
    leads = np.linspace(0.5, 1.5, 20)
    nearly = leads - 0.02 + 0.2 * np.sin(np.arange(20))
    with pytest.raises(UsageError, match=r"told apart on 20 items: output.*input.*--convention and --sign"):
        best([reading("output", 1, leads), reading("input", 0, nearly)])
    clear = reading("output", 1, leads)
    assert best([clear, reading("input", 0, leads - 0.4)]) is clear


def test_a_vector_that_does_nothing_is_not_read_at_all(exam):
    with pytest.raises(UsageError, match="no reading of the file moves the items the labelled way"):
        best(readings(exam, Found("a table", {2: HEEDS}), Placing("output"), dose=2.0))
    with pytest.raises(HookPointError, match=r"numbers 7 to 7 fit no convention: the model has layers 0\.\.2"):
        readings(exam, Found("a table", {7: HEEDS}), Placing())


def test_what_is_said_is_not_measured_again(exam):
    tried = readings(exam, Found("a table", {1: HEEDS}), Placing("input"), signs=(1.0,), dose=2.0)
    assert [(one.convention, one.sign) for one in tried] == [("input", 1.0)]
