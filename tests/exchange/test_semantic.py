"""Convention and sign are found by what the vector does to labelled items, and where they cannot be, nobody guesses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tillerman.core.errors import HookPointError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import Row
from tillerman.exchange.found import Found
from tillerman.exchange.items import exam_of
from tillerman.exchange.placing import Placing
from tillerman.exchange.semantic import FileReading, best, readings
from tillerman.models.tokens import token_activations
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


def reading(convention: str, leads: np.ndarray, closeness: tuple[float, float], sign: float = 1.0) -> FileReading:
    place = {HookPoint(1 if convention == "output" else 0): HEEDS}
    return FileReading(convention, sign, place, leads, mean_effect(leads, np.zeros(len(leads))), closeness)


def test_of_conventions_that_both_work_the_one_is_taken_where_the_vector_was_found():
    """A block earlier the same push often does more, so that what it does is no proof."""
    leads = np.linspace(0.5, 1.5, 20)
    early, found = reading("input", leads + 0.3, (0.8, 0.7)), reading("output", leads, (0.9, 0.95))
    assert best([early, found]) is found
    with pytest.raises(UsageError, match=r"told apart on 20 items: output.*input.*--convention and --sign"):
        best([early, reading("output", leads, (0.9, 0.69))])


def test_signs_that_do_the_same_are_not_chosen_between():
    leads = np.linspace(0.5, 1.5, 20)
    with pytest.raises(UsageError, match=r"told apart on 20 items: output, as-is.*output, flipped"):
        best([reading("output", leads, (0.1, 0.1)), reading("output", leads[::-1], (-0.1, -0.1), -1.0)])


def test_a_vector_that_does_nothing_is_not_read_at_all(exam):
    with pytest.raises(UsageError, match="no reading of the file moves the items the labelled way"):
        best(readings(exam, Found("a table", {2: HEEDS}), Placing("output"), dose=2.0))
    with pytest.raises(HookPointError, match=r"numbers 7 to 7 fit no convention: the model has layers 0\.\.2"):
        readings(exam, Found("a table", {7: HEEDS}), Placing())


def test_what_is_said_is_not_measured_again(exam):
    tried = readings(exam, Found("a table", {1: HEEDS}), Placing("input"), signs=(1.0,), dose=2.0)
    assert [(one.convention, one.sign) for one in tried] == [("input", 1.0)]


def test_a_vector_that_only_says_the_commonest_answer_is_not_close_to_the_right_ones():
    """Four in five right answers are yes: without the same weight for both, yes itself would look right."""
    opened = tiny.opened("llama")
    data = planted.labelled(0, 20, 0.8)
    exam = exam_of(opened, opened.provenance("imported", name=data.name, site="resid_post"), data, 20)
    assert exam.groups.count("Yes") > 2 * exam.groups.count("No") > 0
    gaps = []
    for item, written in zip(exam.items, exam.written, strict=True):
        yes = item.answers.index("Yes")
        rows = [Row(written.row(answer).tokens, len(written.row(answer).tokens) - 1) for answer in (yes, 1 - yes)]
        found = torch.zeros(2, opened.parts.width)
        for owners, h in token_activations(opened, rows, HookPoint(1)):
            found[owners] = h.detach().cpu()
        gaps.append(found[0] - found[1])
    says_yes = torch.stack(gaps).mean(0)
    closeness = {one.closeness for one in readings(exam, Found("a table", {1: says_yes}), Placing("output"))}
    assert all(abs(half) < 0.6 for halves in closeness for half in halves), closeness
