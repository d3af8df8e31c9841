"""The length of thoughts under an artefact: in Python and from the command line, on the embedded reasoner."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.data.thoughts import Tags
from tillerman.evaluation.exam import Exam
from tillerman.pipeline import thoughts as module
from tillerman.pipeline.thoughts import evaluate_thoughts
from tillerman.reports.thoughts import sentences, verdict
from tillerman.steering.generation import Sampling, continuation_tokens

pytestmark = pytest.mark.slow  # a fit or a device that is pretended, in most of them

SMALL = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    method="caa",
    read="mean",
    max_train=60,
    max_validation=10,
    max_test=10,
    layers=(2,),
    doses=(0.75,),
    zero=False,
    null_draws=2,
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated="sample:bbq-age",
    unrelated_items=2,
    generations=("What is 2+3?",),
    generation_tokens=3,
    shots=1,
    answer_tokens=80,
    prompt="Think step by step.",
)


@pytest.fixture(scope="module")
def reasoner():
    return tillerman.open_model("pilot-moe")


@pytest.fixture(scope="module")
def artefact(reasoner):
    return tillerman.fit(SMALL, reasoner, tillerman.load_examples("sample:thoughts", limit=120)).artefact


@pytest.fixture(scope="module")
def log(artefact, reasoner):
    return evaluate_thoughts(artefact, SMALL, reasoner, tillerman.load_examples("sample:sums", limit=80))


def test_every_condition_is_run_on_the_same_items(log):
    assert [c.name for c in log.conditions] == ["unsteered", "steered", "prompt", "both", "null:random"]
    assert {c.length.n for c in log.conditions} == {log.n, 2 * log.n}  # both draws of the null are pooled
    assert log.condition("null:random").length.n == 2 * log.n
    assert log.condition("unsteered").right is not None


def test_the_curve_runs_through_unsteered_and_steered(log):
    strengths = [point.strength for point in log.curve]
    assert strengths == sorted(strengths) and len(strengths) == len(module.THOUGHT_CURVE) + 2
    at = {point.strength: point for point in log.curve}
    assert at[0.0].length == log.condition("unsteered").length
    assert at[log.strength].length == log.condition("steered").length


def test_a_vector_from_short_and_long_thoughts_moves_their_length_both_ways(log):
    """Planted by training: the reasoner thinks in several lengths (docs/thoughts.md has the full figures)."""
    lengths = [point.length.value for point in log.curve]
    assert lengths[0] > lengths[-1]


def test_a_length_is_that_of_the_tokens_between_the_tags(reasoner, artefact, log):
    (item,) = artefact.plan()
    sums = tillerman.load_examples("sample:sums", limit=80)
    bench = module.set_up(
        replace(SMALL, scope=str(item.scope)), reasoner, sums, tillerman.Store(None, ""), module.Unwatched()
    )
    exam, total = bench.test, 0
    assert isinstance(exam, Exam)
    tags = Tags(*reasoner.tokenizer.convert_tokens_to_ids(["<think>", "</think>"]))
    for written in exam.written:
        (said,) = continuation_tokens(reasoner, [written.prompt], [(item,)], Sampling(80))
        total += said.index(tags.closing) - said.index(tags.opening) - 1 if tags.closing in said else len(said) - 1
    assert log.condition("steered").length.value == pytest.approx(total / log.n)


def test_a_log_is_said_in_words(log):
    assert verdict(log).startswith(("Thoughts are ", "No change detected in the length"))
    assert "Prompt baseline: Think step by step." in sentences(log)
    untold = replace(log, conditions=tuple(c for c in log.conditions if c.name not in ("prompt", "both")))
    assert "Prompt baseline: no fair prompt was given or found; give one with --prompt" in sentences(untold)


def test_without_a_prompt_there_is_no_row_of_one(artefact, reasoner):
    """Nothing is known of a prompt, and no item is left to search on."""
    alone = replace(SMALL, prompt=None, shares=(0.0, 0.0, 1.0), max_test=4)
    log = evaluate_thoughts(
        replace(artefact, card=None), alone, reasoner, tillerman.load_examples("sample:sums", limit=9)
    )
    assert [c.name for c in log.conditions] == ["unsteered", "steered", "null:random"]


def test_strength_0_and_texts_and_models_without_tags_are_refused(artefact, reasoner):
    sums = tillerman.load_examples("sample:sums", limit=80)
    abstained = replace(artefact, cell=artefact.cell.at(0.0))
    with pytest.raises(tillerman.UsageError, match="strength is 0"):
        evaluate_thoughts(abstained, SMALL, reasoner, sums)
    texts = tillerman.load_examples([{"positive": f"good {i}", "negative": f"bad {i}"} for i in range(30)])
    with pytest.raises(tillerman.UsageError, match="labelled texts have no questions"):
        evaluate_thoughts(artefact, SMALL, reasoner, texts)
    with pytest.raises(tillerman.UsageError, match=r"'<think>' is \d tokens of this tokenizer"):
        evaluate_thoughts(artefact, SMALL, tillerman.open_model("pilot"), sums)


def test_the_command_prints_tables_and_json_and_refuses_what_it_cannot(artefact, tmp_path):
    path = str(tmp_path / "v.safetensors")
    tillerman.save(path, artefact)
    base = ["eval", path, "sample:sums", "-m", "pilot-moe", "--metric"]
    made = CliRunner().invoke(app, [*base, "thought-length", "--limit", "60", "--answer-tokens", "60", "--json"])
    assert made.exit_code in (0, 3), made.output
    values = json.loads(made.stdout)
    assert values["limit"] == 60 and {c["name"] for c in values["conditions"]} >= {"unsteered", "steered", "both"}
    shown = CliRunner().invoke(
        app, [*base, "thought-length", "--limit", "60", "--answer-tokens", "60"], env={"COLUMNS": "200"}
    )
    assert "change, tokens" in shown.stdout and "Prompt and steered" in shown.stdout
    every = CliRunner().invoke(
        app, [*base, "thought-length", "--limit", "8", "--all-items", "--answer-tokens", "60", "--json"]
    )
    assert json.loads(every.stdout)["n"] == 8
    refused = CliRunner().invoke(app, [*base, "thoughts"])
    assert "no metric named 'thoughts'" in str(refused.exception)
    report = CliRunner().invoke(app, [*base, "thought-length", "--report", str(tmp_path / "r.html")])
    assert "--report and --samples are about right answers" in str(report.exception)
