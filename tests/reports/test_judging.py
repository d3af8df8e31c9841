"""Thirty situations and what each is called: the whole of the rules, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tillerman.reports.judging import Control, Evidence, Price, Rival, Texts, judge
from tillerman.statistics.values import NO_INTERVAL, Effect, Interval, MeanEffect


def found(value: float, low: float, high: float, n: int = 200, balanced: float | None = None) -> Effect:
    return Effect(value, Interval(low, high), 0.001 if low > 0 else 0.5, n, value if balanced is None else balanced)


def wrote(value: float, low: float, high: float) -> MeanEffect:
    return MeanEffect(value, Interval(low, high), 0.01, 32)


CHEAP = Price(0.05, 1.08, Interval(1.05, 1.1), 0.1, 1.2, found(0.0, -0.03, 0.03))
STRONG, QUIET = found(0.3, 0.22, 0.38), found(0.01, -0.04, 0.06)
SILENT = (Control("a random direction", QUIET), Control("the shuffled-label control", found(-0.01, -0.06, 0.04)))
ON_A_PAR = Rival("the prompt", 0.88, 0.02, Interval(-0.03, 0.07))
USUAL = Evidence(STRONG, CHEAP, 0.9, controls=SILENT, prompt=ON_A_PAR)


def with_control(effect: Effect) -> Evidence:
    return replace(USUAL, controls=(Control("a random direction", effect), SILENT[1]))


SITUATIONS = {
    "an effect beyond silent controls, within the budget": (USUAL, "good", "It works: +30.0 pp"),
    "and the same without any control": (replace(USUAL, controls=()), "good", "It works"),
    "no more than the prompt": (USUAL, "good", "Nothing shows that it can do more than the prompt: +2.0 pp"),
    "more than the prompt": (
        replace(USUAL, prompt=Rival("the prompt", 0.6, 0.3, Interval(0.2, 0.4))),
        "good",
        "It does what the prompt cannot: +30.0 pp against it (95 % interval +20.0 to +40.0 pp).",
    ),
    "less than the prompt": (
        replace(USUAL, prompt=Rival("the prompt", 0.99, -0.09, Interval(-0.14, -0.04))),
        "mixed",
        "the prompt does better, 99 % right against 90 %. It can do nothing here that the prompt cannot",
    ),
    "less than the few-shot prompt": (
        replace(USUAL, few_shot=Rival("the few-shot prompt", 0.99, -0.09, Interval(-0.14, -0.04))),
        "mixed",
        "the few-shot prompt does better",
    ),
    "no fair prompt": (replace(USUAL, prompt=None), "good", "nothing is said of what a prompt can do"),
    "no effect, and a relevant one is ruled out": (
        replace(USUAL, effect=found(0.01, -0.04, 0.06)),
        "bad",
        "Effects beyond +6.0 pp are ruled out.",
    ),
    "no effect on eleven items": (
        replace(USUAL, effect=found(0.0, -0.42, 0.42, 11)),
        "unclear",
        "Effects up to +42.0 pp are not ruled out: too few items to tell.",
    ),
    "no effect on three items": (
        replace(USUAL, effect=Effect(0.0, NO_INTERVAL, 1.0, 3, 0.0)),
        "unclear",
        "Too few items to tell.",
    ),
    "harm": (replace(USUAL, effect=found(-0.2, -0.3, -0.1)), "bad", "It reduces the behaviour"),
    "the search abstained": (
        replace(USUAL, effect=Effect(0.0, Interval(-0.02, 0.02), 1.0, 200, 0.0), abstained=True),
        "bad",
        "No cell within the budget helps",
    ),
    "a random direction does as much": (
        with_control(found(0.25, 0.15, 0.35)),
        "bad",
        "The controls explain the effect of +30.0 pp: a random direction already gains more than half of it",
    ),
    "a random direction that may do as much": (
        with_control(found(0.2, -0.1, 0.5)),
        "mixed",
        "the interval of a random direction overlaps, +20.0 pp (\N{MINUS SIGN}10.0 to +50.0)",
    ),
    "a control that goes the other way explains nothing": (with_control(found(-0.3, -0.4, -0.2)), "good", "It works"),
    "a letter, not the behaviour": (
        replace(USUAL, turned=found(0.02, -0.05, 0.09)),
        "bad",
        "it is about a letter, over all option orders +2.0 pp",
    ),
    "the behaviour in all orders of the options": (
        replace(USUAL, turned=found(0.28, 0.2, 0.36)),
        "good",
        "the shuffled-label control, all option orders",
    ),
    "an answer word": (
        replace(USUAL, effect=found(0.3, 0.22, 0.38, balanced=0.05)),
        "bad",
        "it is about an answer word",
    ),
    "one answer is right for all": (replace(USUAL, constant=0.98), "mixed", "cannot be told apart"),
    "a shift of the answer's bias": (
        replace(
            USUAL, only_bias="it is a shift of the answer's bias: Yes is given to 64 % of the items instead of 12 %"
        ),
        "bias only",
        "Accuracy changes by +30.0 pp (+22.0 to +38.0), but it is a shift of the answer's bias",
    ),
    "a control speaks before the bias": (
        replace(with_control(found(0.25, 0.15, 0.35)), only_bias="it is a shift"),
        "bad",
        "The controls explain",
    ),
    "scored, not written": (
        replace(USUAL, effect=found(0.54, 0.3, 0.7), written=wrote(0.01, -0.03, 0.05)),
        "scores only",
        "It scores better, does not write so: given answers +54.0 pp",
    ),
    "scored and written": (
        replace(USUAL, written=wrote(0.2, 0.1, 0.3)),
        "good",
        "and it writes so, +0.20 (+0.10 to +0.30) of 1, n = 32",
    ),
    "written, not scored": (
        replace(USUAL, effect=QUIET, written=wrote(0.2, 0.1, 0.3)),
        "mixed",
        "It writes so (+0.20 (+0.10 to +0.30) of 1, n = 32), though it scores no better",
    ),
    "no scorer reads the replies": (
        replace(USUAL, written_refused="it reads only the length"),
        "good",
        "(what it writes is not measured: it reads only the length)",
    ),
    "perplexity beyond the budget": (
        replace(USUAL, price=replace(CHEAP, perplexity_ratio=2.17, perplexity_interval=Interval(1.95, 2.4))),
        "mixed",
        "perplexity on neutral text is 2.17 \N{MULTIPLICATION SIGN}, above 1.20 \N{MULTIPLICATION SIGN}",
    ),
    "KL beyond the budget": (
        replace(USUAL, price=replace(CHEAP, kl=0.84)),
        "mixed",
        "KL on neutral text is 0.840 nats per token, above 0.10",
    ),
    "an unrelated task suffers": (
        replace(USUAL, price=replace(CHEAP, unrelated=found(-0.2, -0.25, -0.15))),
        "mixed",
        "the unrelated task loses 20.0 pp",
    ),
    "word salad in its own example texts": (
        replace(USUAL, texts=Texts(4.2, 0.0, 0.0)),
        "mixed",
        "its own example texts read badly, 4.20 \N{MULTIPLICATION SIGN} the perplexity of unsteered ones",
    ),
    "loops in its own example texts": (
        replace(USUAL, texts=Texts(0.6, 0.7, 0.1)),
        "mixed",
        "its own example texts repeat themselves, 70 % of their runs of words",
    ),
    "an effect of thirteen items may be anything": (
        replace(USUAL, effect=found(0.54, 0.19, 0.77, 13)),
        "mixed",
        "13 items leave open how large it is",
    ),
    "a lifted budget asks for no small price": (
        replace(USUAL, price=Price(0.5, 1.6, Interval(1.5, 1.7), None, None, CHEAP.unrelated)),
        "good",
        "Cost: perplexity 1.60 \N{MULTIPLICATION SIGN}",
    ),
    "a ruined model is a doubt also without a budget": (
        replace(USUAL, price=Price(3.0, 20.0, Interval(15.0, 25.0), None, None, CHEAP.unrelated)),
        "mixed",
        "perplexity on neutral text is 20.00 \N{MULTIPLICATION SIGN}, above 2.00",
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_each_situation_has_its_verdict(situation: str) -> None:
    evidence, outcome, says = SITUATIONS[situation]
    verdict = judge(evidence)
    assert (verdict.outcome, says in verdict.words) == (outcome, True), verdict.words


def test_every_verdict_of_an_effect_says_what_the_prompt_does() -> None:
    for name, (evidence, outcome, _) in SITUATIONS.items():
        if outcome in ("good", "mixed", "scores only") and evidence.effect.found:
            assert " prompt" in judge(evidence).words.rsplit(". ", 1)[-1] or "against it" in judge(evidence).words, name
