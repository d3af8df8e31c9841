"""Vectors of a prompt: whose text they take, and what they do without one."""

from __future__ import annotations

import pytest

from tillerman.core.errors import FitError
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.methods.base import Context
from tillerman.methods.prompts import PromptContrast, PromptVector

from .. import tiny

KINDS = pytest.mark.parametrize("kind", [PromptVector, PromptContrast])


def _context(prompt=""):
    opened = tiny.opened()
    writer = make_writer(opened.tokenizer)
    items = present([Example("choice", "Which?", ("apple", "stone"), 0)])
    return Context(opened, items, tuple(map(writer.write, items)), writer, (), tiny.provenance(), prompt=lambda: prompt)


@KINDS
def test_the_prompt_of_the_run_is_taken_where_the_method_has_no_text_of_its_own(kind):
    assert kind().pair(_context("Be kind.")) == kind(positive="Be kind.").pair(_context("Be dull."))
    assert kind(negative="Be cruel.").pair(_context("Be kind.")) != kind().pair(_context("Be kind."))


@KINDS
@pytest.mark.parametrize(("prompt", "negative"), [("", ""), ("Be kind.", "Be kind.")])
def test_a_prompt_that_says_nothing_makes_no_vector(kind, prompt, negative):
    with pytest.raises(FitError, match=f"give --prompt TEXT .and --method {kind.name}:negative=TEXT for the opposite"):
        kind(negative=negative).pair(_context(prompt))
