"""Free replies under an artefact: all conditions on the same prompts, scored without a model, by the command."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation.scorers.stub_judge import Reply, judge
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.errors import MetricError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Intervention
from tillerman.data.prompts_file import load_asks
from tillerman.data.writing import make_writer
from tillerman.evaluation.scorers.base import ScoreRange
from tillerman.evaluation.scorers.registry import text_scorers
from tillerman.evaluation.scorers.texts import Reader
from tillerman.evaluation.scores import scored
from tillerman.logs.scores import ScoreLog
from tillerman.pipeline import replies as module
from tillerman.pipeline.replies import Inquiry, reply
from tillerman.steering.generation import Sampling, continuations

MOODS = Path(__file__).parent / "moods.csv"
FIT = tillerman.Experiment(
    max_kl=None,
    max_perplexity_ratio=None,
    method="caa",
    layers=(2,),
    doses=(0.3,),
    shares=(0.8, 0.1, 0.1),
    neutral="sample:tinystories",
    neutral_tokens=256,
    unrelated_items=5,
    null_draws=2,
    generations=("Tell me a story.",),
    generation_tokens=3,
)
DOSES = (-0.6, 0.6)
JOYFUL = "You are joyful."


@pytest.fixture(scope="module")
def opened():
    return tillerman.open_model("pilot")


@pytest.fixture(scope="module")
def artefact(opened):
    return tillerman.fit(FIT, opened, tillerman.load_examples(MOODS, positive_label="happy")).artefact


@pytest.fixture(scope="module")
def inquiry():
    return Inquiry(load_asks("sample")[:8], JOYFUL, tokens=12, doses=DOSES, null_draws=2, points=(HookPoint(2),))


@pytest.fixture(scope="module")
def log(artefact, inquiry, opened):
    return reply(artefact, inquiry, opened)


def test_every_condition_answers_every_prompt(log):
    assert [c.name for c in log.conditions] == ["unsteered", "steered", "steered", "prompt", "both", "null:random"]
    assert [round(c.dose, 6) for c in log.conditions] == [0, -0.6, 0.6, 0, 0.6, 0.6]
    assert [len(c.replies) for c in log.conditions] == [1, 1, 1, 1, 1, 2]
    assert {len(draw) for c in log.conditions for draw in c.replies} == {8}


def test_replies_are_those_of_their_plan_with_the_same_random_numbers(log, artefact, opened, inquiry):
    writer = make_writer(opened.tokenizer)
    vector = artefact.steering.at(HookPoint(2))
    dosed = (Intervention(vector, vector.strength(HookPoint(2), 0.6), scope=artefact.cell.scope),)
    null = (replace(dosed[0], steering=vector.random_like(1)),)
    wanted = {1: ((), None), 3: (dosed, None), 4: ((), JOYFUL), 5: (dosed, JOYFUL), 6: (null, None)}
    for place, (plan, system) in wanted.items():
        asked = [writer.with_system(system).prompt_text(ask.prompt) + ask.start for ask in inquiry.asks]
        said = continuations(opened, [writer.encode(text) for text in asked], [plan] * 8, Sampling(12, 0.7, 0))
        assert list(log.conditions[place - 1].replies[0]) == [text.strip() for text in said]


def test_without_a_prompt_there_is_no_baseline_of_one_and_the_other_replies_are_the_same(
    log, artefact, inquiry, opened
):
    alone = reply(artefact, replace(inquiry, system=None), opened)
    assert [c.name for c in alone.conditions] == ["unsteered", "steered", "steered", "null:random"]
    assert alone.conditions == tuple(c for c in log.conditions if c.name not in ("prompt", "both"))


@pytest.mark.slow
def test_several_samples_differ_and_count_once_per_prompt(artefact, inquiry, opened, log):
    several = reply(artefact, replace(inquiry, samples=2, asks=inquiry.asks[:4]), opened)
    said = several.conditions[0].replies[0]
    assert len(said) == 8 and said[0] != said[1]
    assert scored(several, text_scorers(["length"])).scored[0].rows[0].figure.n == 4
    assert log.samples == 1


def test_a_log_is_scored_again_without_a_model_and_survives_json(log):
    once = scored(log, text_scorers(["sentiment,length"]))
    back = ScoreLog.from_json(json.loads(json.dumps(once.to_json(), allow_nan=False)))
    assert back == once
    again = scored(back, text_scorers(["length,fluency"]))
    assert [one.scorer for one in again.scored] == ["sentiment", "length", "fluency"]
    assert again.by("length") == once.by("length") and again.by("length").high is None


def test_figures_are_of_the_texts_that_the_log_keeps(log):
    rows = scored(log, text_scorers(["length"])).scored[0].rows
    counts = [[len(re.findall(r"\w+(?:['-]\w+)*", text)) for text in c.replies[0]] for c in log.conditions]
    for row, mine in zip(rows[:5], counts, strict=False):
        assert row.figure.value == pytest.approx(sum(mine) / 8) and row.figure.n == 8
    assert rows[0].change is None
    assert rows[2].change.value == pytest.approx((sum(counts[2]) - sum(counts[0])) / 8)
    assert rows[5].figure.of == "draws" and rows[5].figure.n == 2


def test_scores_that_are_missing_are_counted_and_scores_that_are_no_number_are_refused(log):
    some = Reader("some", ScoreRange("share", 0.0, 1.0), lambda text: None if "a" in text else 1.0)
    row = scored(log, [some]).scored[0].rows[0]
    missing = sum("a" in text for text in log.conditions[0].replies[0])
    assert missing == (8 if row.figure is None else row.figure.missing)
    with pytest.raises(MetricError, match="scorer 'bad' gave nan"):
        scored(log, [Reader("bad", ScoreRange("share", 0.0, 1.0), lambda _: math.nan)])


def test_a_scorer_is_given_all_texts_at_once(log):
    calls = []

    class Counting(Reader):
        def score(self, prompts, replies):
            calls.append(len(replies))
            return super().score(prompts, replies)

    scored(log, [Counting("x", ScoreRange("share", 0.0, 1.0), lambda _: 1.0)])
    assert calls == [7 * 8]


def test_without_doses_multiples_of_the_chosen_strength_are_run(artefact, inquiry, opened):
    chosen = replace(artefact, cell=artefact.cell.at(2.0))
    made = reply(chosen, replace(inquiry, doses=None, points=None, asks=inquiry.asks[:1], tokens=2), opened)
    assert [c.strength for c in made.conditions] == [0, -2.0, 1.0, 2.0, 4.0, 0, 2.0, 2.0]
    abstained = replace(artefact, cell=artefact.cell.at(0.0))
    with pytest.raises(tillerman.UsageError, match="give `doses`"):
        reply(abstained, replace(inquiry, doses=None), opened)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 2, "temperature": 0.0}, "all samples are the same"),
        ({"null_draws": 1}, "at least two"),
        ({"doses": (0.0,)}, "at least one that is not 0"),
        ({"samples": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(inquiry, change, message):
    with pytest.raises(tillerman.UsageError, match=message):
        replace(inquiry, **change)


@pytest.mark.slow
def test_thoughts_stay_in_the_text_and_are_measured():
    reasoner = tillerman.open_model("pilot-moe")
    sums = tillerman.load_examples("sample:sums", limit=4).examples
    asks = tuple(module.Ask(example.question) for example in sums)
    vector = tillerman.SteeringVector(
        {HookPoint(2): tillerman.capture(reasoner, [tillerman.Row((1, 2, 3))], [HookPoint(2)])[HookPoint(2)][0]},
        {HookPoint(2): 1.0},
        tillerman.Provenance("x", "y", 128, 4, "t", "c", "chat", "caa"),
    )
    made = reply(
        tillerman.Artefact(vector, tillerman.Cell.of(vector, 0.01)),
        Inquiry(asks, "x", tokens=100, temperature=0.0, null_draws=2),
        reasoner,
    )
    assert made.conditions[0].replies[0][0].startswith("<think>")
    rows = scored(made, text_scorers(["thought-length"])).scored[0].rows
    assert rows[0].figure.n == 4 and rows[0].figure.value > 1


@pytest.fixture
def file(artefact, tmp_path):
    path = tmp_path / "v.safetensors"
    tillerman.save(path, artefact)
    return str(path)


SMALL = ["--doses=-0.6,0.6", "--at", "2", "--tokens", "8", "--null-draws", "2"]


def run(*command):
    result = CliRunner().invoke(app, list(command), env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.slow
def test_the_command_shows_a_table_per_scorer_and_writes_all_texts(file, tmp_path):
    out = tmp_path / "log.json"
    shown = run("score", file, "--scorer", "sentiment,length,keywords:a", "--out", str(out), *SMALL).stdout
    words = " ".join(shown.split())
    assert "sentiment (P(positive) - P(negative), \N{MINUS SIGN}1 to 1)" in words
    assert "length (words, 0 or more)" in words
    assert "the classifier confuses positive and negative" in words
    assert max(map(len, shown.splitlines())) <= 80 and "\u2026" not in shown
    made = ScoreLog.from_json(json.loads(out.read_text()))
    assert len(made.prompts) == 32 and not list(tmp_path.glob("*.partial"))
    again = run("score", "--rescore", str(out), "--scorer", "keywords:happy", "--json").stdout
    names = [one["scorer"] for one in json.loads(again)["scored"]]
    assert names == ["sentiment", "length", "keywords:a", "keywords:happy"]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_with_the_same_log(file, tmp_path, monkeypatch):
    out = tmp_path / "log.json"
    whole = json.loads(run("score", file, "--json", *SMALL).stdout)
    with monkeypatch.context() as during:
        made = []

        def stop(*args):
            made.append(args)
            if len(made) == 3:
                raise KeyboardInterrupt
            return real(*args)

        real = module.continuation_tokens
        during.setattr(module, "continuation_tokens", stop)
        assert CliRunner().invoke(app, ["score", file, "--out", str(out), *SMALL]).exit_code == 130
    assert [path.name for path in tmp_path.glob("log*")] == ["log.json.partial"]
    done = run("score", file, "--out", str(out), *SMALL)
    assert "resuming from 2 finished pieces" in done.stderr
    found = json.loads(out.read_text())
    assert {**found, "seconds": 0} == {**whole, "seconds": 0}


@pytest.mark.slow
def test_a_judge_is_asked_blindly_cached_beside_the_log_and_replayed(file, tmp_path, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    out = tmp_path / "log.json"
    options = ["--judge-model", "stub", "--behaviour", "it is joyful", "--judge-scores", "behaviour,axbench"]
    repeats = ["--judge-repeats", "2", "--judge-temperature", "1", "--judge-key", "JUDGE_KEY"]

    def plan(body, number):
        return Reply(str((len(body["messages"][0]["content"]) + number) % 3))

    (tmp_path / "asks.txt").write_text("Tell me a story.\nDescribe yourself.\nSay something sad.\n")
    few = ["--prompts", str(tmp_path / "asks.txt"), *SMALL]
    with judge(plan) as stub:
        shown = run("score", file, "--judge", stub.url, *options, *repeats, "--out", str(out), *few).stdout
    assert "judge:behaviour (rating, 0 to 10)" in shown and "Judge's behaviour, rated twice: weighted kappa" in shown
    assert not any(word in text for text in stub.questions for word in ("unsteered", "steered", "null", "dose"))
    assert "Prompt baseline: You show this behaviour: it is joyful." in shown
    kept = tmp_path / "log.json.judge.jsonl"
    assert "sk-very-secret" not in kept.read_text() + out.read_text()
    replayed = ["--rescore", str(out), *options, *repeats, "--judge-replay", str(kept), "--json"]
    again = json.loads(run("score", *replayed).stdout)
    assert again == json.loads(out.read_text())
    kept.write_text("".join(line + "\n" for line in kept.read_text().splitlines()[3:]))
    with pytest.raises(tillerman.DataError, match="no answer of stub to call"):
        run("score", *replayed)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "give an ARTEFACT"),
        (["x", "--rescore", "y"], "give an ARTEFACT"),
        (["--rescore", "y", "--doses", "1"], "takes a log's texts as they are"),
        (["--rescore", "nowhere.json"], "no log of kind scores"),
        (["x", "--judge", "http://x"], "name the judge"),
        (["x", "--judge-model", "m"], "are about a judge"),
        (["x", "--judge", "http://x", "--judge-replay", "f", "--judge-model", "m"], "give one of them"),
        (["x", "--judge", "http://x", "--judge-model", "m"], "name it with --behaviour"),
        (["x", "--scorer", "length", "--prompts", "nowhere.txt"], "cannot read prompts"),
    ],
)
def test_contradictions_are_refused_before_any_model_is_opened(command, message, monkeypatch):
    monkeypatch.setattr("tillerman.cli.options.ModelChoice.open", None)
    with pytest.raises(tillerman.TillermanError, match=message):
        run("score", *command)


def test_a_file_that_is_no_log_of_scores_is_refused(tmp_path):
    (tmp_path / "log.json").write_text('{"version": 1}')
    with pytest.raises(tillerman.LogError, match="no log of kind scores: without"):
        run("score", "--rescore", str(tmp_path / "log.json"))


@pytest.mark.slow
def test_a_vector_of_moods_moves_the_sentiment_of_the_pilots_stories(artefact, opened):
    asked = Inquiry(load_asks("sample"), JOYFUL, samples=2, doses=(-0.6, 0.3), points=(HookPoint(2),))
    rows = scored(reply(artefact, asked, opened), text_scorers(["sentiment"])).scored[0].rows
    sadder, both, null = rows[1].change, rows[4].change, rows[5].change
    assert sadder.interval.high < -0.2
    assert both.interval.low > 0
    assert null.interval.low < 0 < null.interval.high
