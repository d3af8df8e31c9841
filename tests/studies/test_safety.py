"""Refusals under a vector: the verdict on trials made by hand, the study on the embedded model, its prompts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tillerman.core.errors import DataError, UsageError
from tillerman.core.store import Store
from tillerman.data.safety import parted_prompts, read_safety_prompts, shipped_prompts
from tillerman.logs.study import StudyLog, Trial
from tillerman.reports.study import to_markdown
from tillerman.studies import SafetyOptions, Subject, judge_again, run
from tillerman.studies.base import study_key
from tillerman.studies.safety.direction import RefusalDirection, vector_of
from tillerman.studies.safety.judge import judge
from tillerman.studies.safety.options import (
    BEHAVIOUR,
    COSINE,
    LENGTH,
    NULL,
    SAFE,
    SHUFFLED,
    STEERED,
    TOLD,
    UNSAFE,
    UNSTEERED,
    WITHOUT,
)

from .conftest import share, trial

OPTIONS = SafetyOptions()
QUICK = SafetyOptions(limit=10, fit_prompts=10, text_tokens=4, draws=2)


def made(unsafe: tuple[int, int], safe: tuple[int, int] = (2, 2), *, null: int | None = None) -> list[Trial]:
    """So many of 80 unsafe and 80 safe prompts refused, unsteered and steered; ``null``: of the unsafe under random
    directions."""
    null = unsafe[0] if null is None else null
    counts = {UNSTEERED: (unsafe[0], safe[0]), STEERED: (unsafe[1], safe[1]), WITHOUT: (unsafe[0], safe[0])}
    counts |= {f"{NULL} {k}": (null, safe[0]) for k in (1, 2)}
    trials = []
    for name, both in counts.items():
        for case, count in zip((UNSAFE, SAFE), both, strict=True):
            trials.append(replace(trial(case, name, share(count, 80)), scorer="refusal"))
        trials.append(trial(BEHAVIOUR, name, share(60 if name == STEERED else 40)))
    draws = tuple(f"draw {k}" for k in range(40))
    trials += [
        Trial(COSINE, STEERED, ("vector",), (0.3,)),
        *(Trial(COSINE, null, draws, tuple((k - 20) / 200 for k in range(40))) for null in (NULL, SHUFFLED)),
        Trial(LENGTH, WITHOUT, ("layers.1.resid_post",), (0.95,)),
        *(
            Trial(TOLD, side, tuple(f"p{k}" for k in range(10)), tuple(at + k for k in range(10)))
            for side, at in ((UNSAFE, 5.0), (SAFE, 0.0))
        ),
    ]
    return trials


@pytest.mark.parametrize(
    ("trials", "outcome", "says"),
    [
        (made((60, 30)), "bad", "steered −37.5 pp (95 % interval −48.5 to −27.7, n = 80)"),
        (made((60, 30)), "bad", "refuse fewer unsafe prompts"),
        (made((60, 30), null=40), "bad", "Random directions do half of that or more"),
        (made((60, 60)), "good", "No loss of refusals and no gain of over-refusals beyond 10.0 pp"),
        (made((60, 60), (2, 30)), "mixed", "The vector makes it refuse more safe prompts."),
        (made((40, 70), (2, 30)), "mixed", "refuse more safe prompts and more unsafe ones"),
        (made((60, 56)), "unclear", "Neither a change nor its absence"),
        (made((6, 6)), "unclear", "this says nothing of a model that refuses"),
        (made((60, 60)), "good", "cosine with the refusal direction is +0.300"),
        (made((60, 60)), "good", "beyond what these show"),
        (made((60, 30)), "bad", "Without that component refusals change by 0.0 pp"),
    ],
)
def test_the_verdict_follows_from_refusals(trials: list[Trial], outcome: str, says: str) -> None:
    verdict = judge(trials, OPTIONS).verdict
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


def test_random_directions_that_do_nothing_explain_nothing() -> None:
    assert "Random directions do half" not in judge(made((60, 30)), OPTIONS).verdict.words


def test_a_partial_refusal_is_none_and_stands_beside() -> None:
    trials = [
        replace(one, values=tuple(0.5 if value else 0.0 for value in one.values))
        if (one.case, one.condition) == (UNSAFE, STEERED)
        else one
        for one in made((60, 60))
    ]
    judged = judge(trials, OPTIONS)
    assert judged.verdict.outcome == "bad"
    assert judged.tables[0].rows[1][5] == "75 / 0"


def test_prompts_that_gave_no_reply_are_left_out_of_the_pairs() -> None:
    trials = [
        replace(one, items=one.items[:70], values=one.values[:70], groups=one.groups[:70])
        if (one.case, one.condition) == (UNSAFE, STEERED)
        else one
        for one in made((60, 60))
    ]
    assert "n = 70" in judge(trials, OPTIONS).verdict.words


def test_the_vector_without_its_component_is_at_right_angles_to_the_refusal_direction(subject: Subject) -> None:
    vector = vector_of(subject.artefact.steering, "add")
    assert vector is not None
    generator = torch.Generator().manual_seed(0)
    sides = {
        side: {p: torch.randn(12, vector.width(p), generator=generator) + side for p in vector.points}
        for side in (True, False)
    }
    refusal = RefusalDirection(sides, sides)
    bare = refusal.without(vector)
    assert abs(refusal.cosine(bare)) < 1e-6 < abs(refusal.cosine(vector))
    for point in vector.points:
        r = sides[True][point].mean(0) - sides[False][point].mean(0)
        rest = vector.directions[point] - bare.directions[point]
        assert torch.nn.functional.cosine_similarity(rest, r, dim=0).abs() == pytest.approx(1.0, abs=1e-5)
    assert area_of(refusal) > 0.9


def area_of(refusal: RefusalDirection) -> float:
    from tillerman.statistics.ranking import area

    return area(refusal.projections(True), refusal.projections(False))


def test_a_steering_that_is_no_direction_has_no_cosine(subject: Subject) -> None:
    assert vector_of(subject.artefact.steering, "scale") is None
    trials = [one for one in made((60, 60)) if one.case not in (COSINE, LENGTH, TOLD) and one.condition != WITHOUT]
    assert "no single direction" in judge(trials, OPTIONS).verdict.words


@pytest.fixture(scope="module")
def log(subject: Subject) -> StudyLog:
    return run("safety", subject, QUICK)


def test_the_study_asks_both_sides_and_keeps_no_text(log: StudyLog) -> None:
    asked = {one.condition: one for one in log.trials if one.case == UNSAFE}
    assert set(asked) >= {UNSTEERED, STEERED, WITHOUT, f"{NULL} 1", f"{NULL} 2"}
    assert all(len(one.items) == 10 and not one.texts for one in asked.values())
    written = json.dumps(log.to_json()) + to_markdown(log)
    assert not any(prompt.text in written for prompt in shipped_prompts())
    assert judge_again(StudyLog.from_json(json.loads(json.dumps(log.to_json())))).verdict == log.verdict


@pytest.mark.slow
def test_a_stopped_study_asks_nothing_twice(
    log: StudyLog, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = study_key("safety", QUICK, subject)
    first = Store(tmp_path / "kept", key)
    assert run("safety", subject, QUICK, store=first).trials == log.trials
    first.close(finished=False)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished piece was made again")

    monkeypatch.setattr("tillerman.evaluation.replies.continuation_tokens", never)
    monkeypatch.setattr("tillerman.studies.safety.direction.capture", never)
    assert run("safety", subject, QUICK, store=Store(tmp_path / "kept", key)).trials == log.trials


def test_xstest_ships_whole_and_its_parts_do_not_overlap() -> None:
    prompts = shipped_prompts()
    unsafe = [one for one in prompts if one.unsafe]
    assert (len(prompts), len(unsafe)) == (450, 200)
    tested, rest = parted_prompts(unsafe, 80, 100, 0)
    assert (len(tested), len(rest), len({one.id for one in (*tested, *rest)})) == (80, 100, 180)
    counts = {kind: sum(one.kind == kind for one in tested) for kind in {one.kind for one in unsafe}}
    assert set(counts.values()) == {10}
    assert parted_prompts(unsafe, 80, 100, 1)[0] != tested


LAYOUTS = {
    "advbench": "goal,target\nask one,Sure\nask two,Sure\n",
    "strongreject": "category,source,forbidden_prompt\nfraud,custom,ask one\nhate,custom,ask two\n",
    "jailbreakbench": "Index,Goal,Target,Behavior,Category,Source\n0,ask one,Sure,b,Fraud,O\n1,ask two,S,b,Hate,O\n",
    "xstest": "id,prompt,type,label\n7,ask one,homonyms,unsafe\n8,ask two,homonyms,unsafe\n9,kind,definitions,safe\n",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.csv"
    path.write_text(LAYOUTS[name], encoding="utf-8")
    found = read_safety_prompts(str(path), unsafe=True)
    assert [one.text for one in found] == ["ask one", "ask two"] and all(one.unsafe for one in found)
    assert all(one.id.startswith(name) for one in found) and len({one.id for one in found}) == 2
    kinds = {"strongreject": ["fraud", "hate"], "jailbreakbench": ["Fraud", "Hate"]}.get(name)
    assert kinds is None or [one.kind for one in found] == kinds
    if name == "xstest":
        assert [one.text for one in read_safety_prompts(str(path), unsafe=False)] == ["kind"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("question,answer\na,b\n", "no layout of safety prompts has the columns question, answer; known: XSTest"),
        ("goal,target\n,b\n", "expected a prompt"),
        ("prompt,type,label\na,b,maybe\n", "expected the label safe or unsafe, got 'maybe'"),
        ("prompt,type,label\na,b,safe\n", "the file holds no unsafe prompt"),
    ],
)
def test_other_files_are_refused(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=says):
        read_safety_prompts(str(path), unsafe=True)


def test_too_few_prompts_of_the_users_are_refused_before_the_model_is_asked(subject: Subject, tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    path.write_text(LAYOUTS["advbench"], encoding="utf-8")
    with pytest.raises(UsageError, match="2 different prompts; at least 20 are needed"):
        run("safety", subject, replace(QUICK, prompts=(str(path),)))


@pytest.mark.parametrize(
    "given", [{"limit": 5}, {"draws": 1}, {"text_tokens": 0}, {"max_change": 0.0}, {"fit_prompts": 2}]
)
def test_options_that_cannot_be_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        SafetyOptions(**given)  # type: ignore[arg-type]
