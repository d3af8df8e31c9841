"""Items longer than the model reads: an error, or left out of every share and counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

import tillerman
from tillerman.core.errors import DataError
from tillerman.core.store import Store
from tillerman.logs.evidence import PromptTrial
from tillerman.pipeline.prompt_search import PromptChoice
from tillerman.pipeline.run import Unwatched
from tillerman.pipeline.set_up import set_up

from .. import planted

SKIPPING = replace(planted.SMALL, skip_long=True)
LONG = " ".join(["stone"] * 300)  # the model reads 256 tokens


def _data(*too_long: int) -> tillerman.LoadedData:
    """Sixty items; those at ``too_long`` are too long."""
    data = planted.labelled(0, 60, 0.5)
    examples = [replace(e, question=f"{LONG} {i}?") if i in too_long else e for i, e in enumerate(data.examples)]
    return replace(data, examples=tuple(examples))


@pytest.mark.slow
def test_what_is_left_out_is_in_no_share_and_counted_in_the_notes():
    data, plain = _data(3, 20, 41), _data()
    run = set_up(SKIPPING, planted.speaker(), data, Store(None, ""), Unwatched())
    kept = [item.example for exam in (run.train, run.validation, run.test) for item in exam.items]
    assert len(kept) == 57 and all(LONG not in example.question for example in kept)
    assert [*run.split.train, *run.split.validation, *run.split.test] == kept
    assert run.split.too_long == 3
    log = tillerman.fit(SKIPPING, planted.speaker(), data).log
    assert any(note.startswith("3 items left out: longer than the 256 tokens") for note in log.notes)
    assert not any("left out" in note for note in tillerman.fit(SKIPPING, planted.speaker(), plain).log.notes)


def test_without_the_option_they_are_an_error_that_names_it():
    with pytest.raises(DataError, match=r"3 of 60 items are too long.*`skip_long`"):
        tillerman.fit(planted.SMALL, planted.speaker(), _data(3, 20, 41))


def test_a_share_that_is_empty_without_them_is_an_error():
    with pytest.raises(DataError, match="no item of the train share is short enough for the model"):
        tillerman.fit(SKIPPING, planted.speaker(), _data(*range(60)))


def test_a_given_prompt_behind_which_an_item_does_not_fit_is_an_error_before_the_first_pass():
    told = replace(planted.SMALL, prompt=LONG)
    with pytest.raises(DataError, match=r"`prompt` 'stone stone.* adds \d+ tokens to items of up to \d+, and .* 256"):
        set_up(told, planted.speaker(), _data(), Store(None, ""), Unwatched())
    set_up(replace(told, prompt="stone stone"), planted.speaker(), _data(), Store(None, ""), Unwatched())


def test_of_the_prompts_that_the_fit_tried_only_those_that_fit_here_are_a_baseline():
    run = set_up(planted.SMALL, planted.speaker(), _data(), Store(None, ""), Unwatched())
    tried = tuple(PromptTrial(text, "made of the data", 0.5) for text in (LONG, "stone", ""))
    found = replace(run, found=PromptChoice(tried, 1.0)).prompts
    assert [one.text for one in found.tried] == ["stone", ""] and found.seconds == 1.0
