"""``tillerman validate-scorer`` as a user runs it: scorers, a judge that is replayed, XSTest's labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tillerman.evaluation.scorers.chat import Cache, Call, call_key
from tillerman.evaluation.scorers.judge import RUBRICS
from tillerman.logs.validation import ValidationLog

from ..data.shared import shared_data
from .running import run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with (tmp_path / "labelled.csv").open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["id", "prompt", "reply", "one", "two", "label"])
        for k in range(40):
            refused = k % 2 == 0
            said = f"I am sorry, I will not do thing number {k} for you" if refused and k % 8 else f"Here is thing {k}"
            word = "refuse" if refused else "comply"
            table.writerow([f"r{k}", f"Do thing {k}", said, word, word if k else "comply", word])
    return tmp_path / "labelled.csv"


@pytest.mark.slow
def test_a_list_of_words_is_held_against_labels_and_annotators(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "look"
    said = run("validate-scorer", "any:sorry", file, "--wanted", "refuse", "--annotators", "one,two", "--out", out)
    said = " ".join(said.split())
    assert "any:sorry agrees with the labels on 87.5 % of 40 replies" in said and "one and two" in said
    assert "r0 " in said and "Here is thing 0" in said
    assert sorted(path.name for path in out.iterdir()) == ["validation.html", "validation.json", "validation.md"]
    assert "number 2 for you" not in (out / "validation.json").read_text()
    again = run("validate-scorer", "--rejudge", out / "validation.json", "--threshold", "0.3", "--top", "0")
    assert "a score above 0.3" in again and "Disagreements" not in again


def test_a_judge_is_replayed_from_its_file(file: Path, tmp_path: Path) -> None:
    answers = tmp_path / "judge.jsonl"
    cache = Cache(answers)
    for row in csv.DictReader(file.open()):
        given = {"{behaviour}": "refuses", "{prompt}": row["prompt"], "{reply}": row["reply"]}
        asked = RUBRICS["behaviour"].question
        for mark, text in given.items():
            asked = asked.replace(mark, text)
        call = Call((("user", asked),))
        cache.add(call_key("j", call, 0.0, 16), "j", call, "9" if "sorry" in row["reply"] else "1")
    asked_for = ("--judge-replay", answers, "--judge-model", "j", "--behaviour", "refuses", "--wanted", "refuse")
    log = ValidationLog.from_json(json.loads(run("validate-scorer", "judge:behaviour", file, *asked_for, "--json")))
    assert (log.scorer, log.threshold, log.agreed.table.counts) == ("judge:behaviour", 5.0, (15, 0, 5, 20))
    lacking = run("validate-scorer", "judge:coherence", file, *asked_for, code=1)
    assert "no answer of j to call" in lacking


def test_what_does_not_go_together_is_said(file: Path) -> None:
    assert "give a SCORER and a FILE of labelled replies" in run("validate-scorer", "any:sorry", code=2)
    assert "takes a log's scores as they are" in run("validate-scorer", "any:a", file, "--rejudge", file, code=2)
    assert "which labels mean yes? name them with --wanted" in run("validate-scorer", "any:sorry", file, code=1)
    wanted = ("--wanted", "refuse")
    assert "no scorer named 'anny'" in run("validate-scorer", "anny:sorry", file, *wanted, code=1)
    assert "asks a judge: give --judge URL" in run("validate-scorer", "judge:behaviour", file, *wanted, code=2)
    assert "asks no judge" in run("validate-scorer", "any:sorry", file, *wanted, "--behaviour", "x", code=2)
    assert "--threshold 'x': write a number, or best" in run(
        "validate-scorer", "any:sorry", file, *wanted, "--threshold", "x", code=2
    )
    assert "has learned from" in run("validate-scorer", f"labels:{file}", file, *wanted, code=2)


def test_word_lists_against_the_labels_of_xstest_miss_refusals_that_two_people_see() -> None:
    """450 replies of GPT-4, labelled by two people: full and partial refusals are yes."""
    path = shared_data("safety/xstest/xstest_v2_completions_gpt4.csv")
    if not path.is_file():
        pytest.skip(f"no {path.name}: XSTest's labelled replies are not at hand")
    people = ("--annotators", "annotation_1,annotation_2", "--wanted", "2_full_refusal,3_partial_refusal")
    log = ValidationLog.from_json(json.loads(run("validate-scorer", "any:sorry", path, *people, "--json")))
    scorer, ceiling = log.agreed, log.pairs[-1]
    assert scorer.table.n == 450 and sum(one.label for one in log.replies) == 220
    assert (ceiling.first, ceiling.second) == ("annotation_1", "annotation_2")
    assert scorer.kappa is not None and ceiling.kappa is not None
    assert 0.5 < scorer.kappa.interval.high < ceiling.kappa.interval.low
    assert all(len(one.begins) <= 62 and not one.text for one in log.replies)
