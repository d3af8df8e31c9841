"""Items longer than the model's context are told before the first pass, whatever share they are in."""

from __future__ import annotations

import pytest
import transformers as tf

from tillerman.core.errors import DataError
from tillerman.data.examples import Example
from tillerman.data.presenting import present
from tillerman.data.writing import make_writer
from tillerman.evaluation.exam import Exam
from tillerman.evaluation.limits import ensure_fits, fitting, lengths
from tillerman.models.opened import open_model

from .. import tiny

LONG = "tell me why " * 120


def _exam(family: str, *examples: Example, limit: int = 16) -> Exam:
    opened = tiny.opened(family, tiny.CHAT)
    return Exam.of(opened, present(list(examples), 0), make_writer(opened.tokenizer), limit)


SHORT = Example("yes_no", "Is it?", ("Yes", "No"), 0)
TOO_LONG = {
    "prompt": Example("yes_no", LONG, ("Yes", "No"), 0),
    "answer": Example("preference", "Is it?", ("yes", LONG), 0),
    "text": Example("text", "", ("yes", LONG), 0),
}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("what", TOO_LONG)
@pytest.mark.parametrize("share", ["train", "validation", "test"])
def test_the_first_item_too_long_is_named_with_both_lengths(family, what, share):
    item = TOO_LONG[what]
    exams = {name: _exam(family, SHORT, *([item] if name == share else [])) for name in ("train", "validation", "test")}
    (_, needed) = lengths(exams[share])
    assert needed > 256
    with pytest.raises(DataError) as raised:
        ensure_fits(exams)
    said = str(raised.value)
    for part in (f"the {share} item {item.id}", f"needs {needed} tokens", f"tiny-{family} reads 256", "1 of 4 items"):
        assert part in said
    assert len(said) <= 600


def test_the_token_that_closes_a_turn_counts():
    exam = _exam("llama", SHORT)
    room = 256 - lengths(exam)[0]
    ensure_fits({"train": exam}, closing=room)
    with pytest.raises(DataError, match="needs 257 tokens"):
        ensure_fits({"train": exam}, closing=room + 1)


def test_an_open_answer_may_be_as_long_as_its_limit():
    asked = Example("open", "Is it?", ("no",), 0)
    ensure_fits({"train": _exam("llama", asked, limit=16)})
    with pytest.raises(DataError, match=r"up to 256 for its answer \(`answer_tokens`\)"):
        ensure_fits({"train": _exam("llama", asked, limit=256)})


def test_of_another_task_only_what_fits_is_asked():
    exam = _exam("gpt2", SHORT, TOO_LONG["prompt"])
    assert fitting(exam).items == exam.items[:1]


def test_a_context_that_rotary_positions_stretch_is_as_long_as_they_say():
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
    config = tf.Qwen2Config(**{**tiny._GROUPED, "max_position_embeddings": 128}, rope_parameters=rope)
    model = tf.AutoModelForCausalLM.from_config(config).eval()
    assert open_model(model, tiny.tokenizer()).context == 512
    assert open_model(tiny.model("llama"), tiny.tokenizer()).context == 256


def test_a_model_without_a_longest_sequence_takes_any():
    from .. import families

    opened = open_model(families.model("bloom"), tiny.tokenizer(tiny.CHAT))
    assert opened.context is None
    exam = Exam.of(opened, present([TOO_LONG["prompt"]], 0), make_writer(opened.tokenizer))
    ensure_fits({"train": exam})
    assert fitting(exam) is exam
