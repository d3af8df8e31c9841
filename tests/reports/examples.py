"""An example of every kind of log, made by hand, with names as long as users make them."""

from __future__ import annotations

from dataclasses import replace

from tillerman.logs.base import Log
from tillerman.logs.comparison import ComparisonLog
from tillerman.logs.making import Dropped, MakingLog, Separation, UsedPrompts
from tillerman.logs.monitor import LiveRate, MonitorLog, RandomDirection, Ranking, ReadingTest
from tillerman.logs.reproduction import ClaimVerdict, Measured, Piece, Ran, ReproductionLog, Skipped
from tillerman.logs.scores import JudgeAgreement, ScoreLog, ScorerResult, ScorerRow, Spoken
from tillerman.logs.second_look import Retested, SecondLookLog
from tillerman.logs.study import Chart, Line, Mark, StudyLog
from tillerman.logs.table import Table
from tillerman.logs.thoughts import Mean, Thinking, ThoughtLog
from tillerman.logs.validation import Pairwise, RatedReply, ValidationLog
from tillerman.logs.verdict import Verdict
from tillerman.statistics.agreement import Agreement, Statistic
from tillerman.statistics.confusion import Bin, Confusion, Reliability
from tillerman.statistics.shifts import ItemShift
from tillerman.statistics.values import Equivalence, Interval, MeanEffect, Power, Rate, ScoreMean

from .example_log import effect, example_log, rate
from .test_comparison import comparison, result

LONG = "answers-that-agree-with-the-user-in-round-12-of-the-annotation"


def study_log(name: str = "samples", outcome: str = "good") -> StudyLog:
    mark = Mark("as fitted", 0.3, Interval(0.2, 0.4), 100)
    head = ("case", "n", "unsteered, % (95 %)", "effect, pp (95 %)", "random null, pp (95 %)", "KL, nats/token (95 %)")
    figures = ("200", "33.8 (27.5 to 40.7)", "+44.1 (+36.2 to +52.0)", "−1.0 (−5.2 to +3.2)", "1.071 (1.021 to 1.120)")
    rows = tuple((f"{LONG} {k}", *figures) for k in range(3))
    return StudyLog(
        study=name,
        question=f"What about {name}?",
        data_name="data",
        model_id="model",
        method="caa",
        hook_point="layers.3.resid_post",
        strength=1.0,
        dose=0.2,
        scope="all",
        options={},
        trials=(),
        verdict=Verdict(outcome, f"The words of {name}."),
        tables=(Table("A table", head, rows, (1,)),),
        charts=(Chart("A chart", "bars", "pp", (Line("steered", (mark,)),)),),
        notes=("A note.",),
        provenance={},
        seconds=1.0,
    )


def thought_log() -> ThoughtLog:
    def row(name: str, strength: float) -> Thinking:
        mean = Mean(1131.2, Interval(1010.4, 1250.7), 195)
        moved = None if name == "unsteered" else Mean(-201.5, Interval(-310.2, -90.1), 195)
        gain = None if moved is None else effect(0.02, 0.06, 0.4)
        return Thinking(name, "Think step by step.", strength, mean, moved, mean, 0.1, rate(0.05), 0.0, rate(0.6), gain)

    rows = tuple(row(name, 1.5) for name in ("unsteered", "steered", "prompt", "both", "null:random"))
    curve = tuple(row("steered", strength) for strength in (-1.5, 0.75, 1.5))
    return ThoughtLog(
        "sums",
        LONG,
        "rice",
        "layers.3.router",
        1.5,
        0.45,
        "thinking",
        None,
        195,
        2048,
        rows,
        curve,
        {},
        12.0,
        ("One.",),
    )


def monitor_log() -> MonitorLog:
    def tested(name: str) -> ReadingTest:
        random = tuple(RandomDirection("layers.3.resid_post", 0.5 + k / 10, 0.1, 0.05) for k in range(3))
        ranking = Ranking(0.93, Interval(0.81, 0.98), 40, 40)
        return ReadingTest(name, "layers.3.resid_post", 2.345, 0.95, ranking, rate(0.8), rate(0.05), random)

    return MonitorLog(
        data_name=LONG,
        model_id=LONG,
        method="caa",
        reading="mean",
        above=True,
        least=4,
        false_alarms=0.05,
        vouched=0.1,
        validation=20,
        own=18,
        limit=40,
        prompt="You agree.",
        readings=tuple(tested(name) for name in ("prompt", "mean", "token")),
        live=(LiveRate("unsteered", rate(0.05), None), LiveRate("steered", rate(0.6), 7.5)),
        provenance={},
        seconds=3.0,
        notes=("A note.",),
    )


def score_log() -> ScoreLog:
    names = ("unsteered", "steered", "prompt", "null:random")
    spoken = tuple(Spoken(name, "Agree.", 1.5, 0.45, (("a reply", "another"),)) for name in names)
    figure = ScoreMean(12345.6, Interval(12001.2, 12700.9), 2, 0)
    moved = ScoreMean(-345.6, Interval(-701.2, 12.9), 2, 0)
    rows = tuple(ScorerRow(k, figure, moved if k else None, ((1.0, 2.0),)) for k in range(4))
    scored = (ScorerResult("length", "words", 0.0, None, "neither", "", rows),)
    kappa, difference = Statistic(0.81, Interval(0.62, 0.95)), Statistic(0.1, Interval(0.0, 0.4))
    agreed = Agreement(2, 0, kappa, None, difference, 0.5)
    return ScoreLog(
        LONG,
        "caa",
        "layers.3.resid_post",
        "all",
        ("one", "two"),
        (None, None),
        1,
        60,
        0.7,
        0,
        spoken,
        scored,
        {},
        (JudgeAgreement("fluency", agreed),),
    )


def reproduction_log() -> ReproductionLog:
    figures = {"effect": Measured(0.2, 0.1, 0.3, 100)}
    verdict = ClaimVerdict("steers", "fits", "holds", "", "effect", 0.2, Interval(0.1, 0.3), 100, "item")
    return ReproductionLog(
        "small",
        "digest",
        100,
        (Ran("fits", "model", "print", ("task",), (0,), 100),),
        (Piece("fits", "task", "steered", 0, figures),),
        (Skipped("other", "its file is missing"),),
        ("A note.",),
        (verdict,),
        {"tillerman": "0.1.0"},
        "2026-01-01",
        60.0,
    )


def comparison_log() -> ComparisonLog:
    return ComparisonLog((comparison(result(), replace(result(), method=f"{LONG}+pca"), name=LONG), comparison()))


def making_log() -> MakingLog:
    return MakingLog(
        description="speaks like a pirate",
        source="description",
        writer=LONG,
        answered_by=LONG,
        written=12,
        kept=9,
        asked_for=10,
        prompts=(UsedPrompts("You are a pirate.", LONG, 12, 9),),
        questions={"written": 3, "ready": 7},
        dropped=(Dropped("too short", 3, "Who?", "Arr", LONG),),
        separation=Separation("labels", 0.9, Interval(0.8, 0.95), 12),
        prompt_in="user",
        tokens=40,
        temperature=0.7,
        provenance={"model_id": LONG},
        notes=("9 of 10 items asked for",),
    )


def second_look_log() -> SecondLookLog:
    """A gain that stands, a score that does not, and both files together."""
    counts = (ItemShift(-1.0, 1, 10), ItemShift(0.0, 1, 60), ItemShift(1.0, 1, 30))
    gain = MeanEffect(0.2, Interval(0.08, 0.32), 0.002, 100)
    within = Equivalence(0.2, Interval(0.1, 0.3), 0.05, 0.99, 100)
    stands = Retested(
        LONG, "cache", False, 0.4, 0.6, counts, gain, 0.006, "better", Power(100, 0.2, 0.4, 0.8, 0.017), within, 1.0
    )
    score = MeanEffect(0.125, Interval(-0.25, 0.5), 0.51, 8)
    open_ = Retested("scores", "judged", True, 1.0, 1.125, (ItemShift(0.125, 1, 8),), score, 1.0, "undecided")
    over = Retested("", "cache", False, 0.4, 0.6, (ItemShift(2.0, 2, 100),), replace(gain, n=100), 0.006, "better")
    return SecondLookLog("unsteered", (stands, open_, over), 0.05, {"a/b.csv": "0" * 64}, ("question",), ("A note.",))


def validation_log() -> ValidationLog:
    """A judge that two people agree with less than with each other."""
    table, people = Confusion(40, 10, 10, 40), Confusion(49, 1, 1, 49)
    kappas = Statistic(0.6, Interval(0.44, 0.73)), Statistic(0.96, Interval(0.88, 0.99))
    pairs = (
        Pairwise("judge:behaviour", "label", table, Rate(0.8, Interval(0.71, 0.869), 100, 0.8), kappas[0]),
        Pairwise("ann", "bob", people, Rate(0.98, Interval(0.93, 0.995), 100, 0.98), kappas[1]),
    )
    replies = (
        RatedReply("a", True, 6.0, True, LONG, (True, True)),
        RatedReply("b", False, 9.0, True, "I am sorry …", (False, None)),
        RatedReply("c", True, None, None, "", (True, False)),
    )
    low, high = Bin(0.0, 0.1, 0.05, rate(0.1, 50)), Bin(0.9, 1.0, 0.95, rate(0.9, 50))
    found = Reliability(Statistic(0.12, Interval(0.09, 0.15)), 0.25, 0.05, (low, high))
    return ValidationLog(
        "judge:behaviour",
        "rating",
        0.0,
        10.0,
        "rated by a model",
        LONG,
        "0" * 64,
        "label",
        ("refuse",),
        ("ann", "bob"),
        5.0,
        "middle",
        False,
        replies,
        pairs,
        Statistic(0.85, Interval(0.77, 0.91)),
        found,
        ("A note.",),
    )


LOGS: tuple[Log, ...] = (
    example_log(),
    comparison_log(),
    study_log(),
    thought_log(),
    monitor_log(),
    score_log(),
    second_look_log(),
    validation_log(),
    reproduction_log(),
    making_log(),
)
