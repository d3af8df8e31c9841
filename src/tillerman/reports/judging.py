"""What evidence about a vector amounts to: one word and a few sentences. Pure, and without a log.

The order of the questions is the order of what is said: is there an effect, whose is it, is it the behaviour, is it
written, what does it cost, and what can it do that a prompt cannot?
"""

from __future__ import annotations

from dataclasses import dataclass

from tillerman.logs.verdict import Verdict
from tillerman.reports.numbers import briefly, decimal, percent, points, ratio, said, shown_number, size
from tillerman.statistics.values import Effect, Interval, MeanEffect

RELEVANT = 0.1  # of the items: a smaller effect than this does not matter, so one that is ruled out is "bad"
VAGUE = 0.5  # width of the effect's interval, of the items: above it, what was found may be almost anything
_SHARE = 0.5  # of the effect: a control that shows so much explains it, one that leaves so little too
_RUINED = 2.0  # perplexity ratio that is a doubt even where the budget was lifted
_HARM = -0.05  # lost on the unrelated task, surely
_INCOHERENT = 3.0  # times the perplexity of the unsteered model's own texts
_REPEATED = 0.3  # more of a text said before than in the unsteered model's own


@dataclass(frozen=True)
class Control:
    """An effect that is not the vector's: of random directions, of shuffled labels."""

    name: str  # in the middle of a sentence
    effect: Effect


@dataclass(frozen=True)
class Rival:
    """A baseline that needs no vector: its share of right answers, and steered minus it on the same items."""

    name: str  # "the prompt", "the few-shot prompt"
    right: float
    lead: float
    interval: Interval


@dataclass(frozen=True)
class Price:
    """Of steering every token of neutral text, against the budget (None: lifted), and of an unrelated task."""

    kl: float
    perplexity_ratio: float
    perplexity_interval: Interval
    max_kl: float | None
    max_perplexity_ratio: float | None
    unrelated: Effect


@dataclass(frozen=True)
class Texts:
    """Example texts under the unsteered model: perplexity of steered over that of unsteered ones, and the share of
    repeated runs of words in both."""

    perplexity_ratio: float
    repeated: float
    repeated_unsteered: float


@dataclass(frozen=True)
class Evidence:
    """All that is weighed. None: not measured, or not to be measured on these items."""

    effect: Effect
    price: Price
    steered: float = 1.0  # share of right answers under steering
    abstained: bool = False  # the search took strength 0
    controls: tuple[Control, ...] = ()
    turned: Effect | None = None  # over all orders of the options
    constant: float | None = None  # right answers of always saying the same
    only_bias: str = ""  # why it is only a shift of the answer's bias
    written: MeanEffect | None = None  # change of the written replies, by a scorer of the labels
    written_refused: str = ""  # why no scorer reads the replies
    prompt: Rival | None = None
    few_shot: Rival | None = None
    texts: Texts | None = None
    unchecked: tuple[str, ...] = ()  # what was left out to be fast


def judge(e: Evidence) -> Verdict:
    """``bad``: no effect that matters, a harmful one, or one that a control explains. ``unclear``: too few items to
    tell. ``bias only``: the answers are shifted, and no better told apart. ``scores only``: given answers are scored
    better, and replies are not written so. ``mixed``: an effect with a doubt, a price beyond the budget, or a baseline
    that does better. ``good``: an effect beyond all controls, within the budget, that no baseline surely beats."""
    if e.abstained:
        return Verdict("bad", "No cell within the budget helps: the search took strength 0, and nothing is steered.")
    if e.effect.interval.high < 0:
        return Verdict("bad", f"It reduces the behaviour: {said(e.effect)}.")
    if not e.effect.found:
        return _without_effect(e)
    explained = _explanations(e)
    if explained:
        return Verdict("bad", f"The controls explain the effect of {points(e.effect.value)}: {'; '.join(explained)}.")
    if e.only_bias:
        return Verdict("bias only", f"Accuracy changes by {briefly(e.effect)}, but {e.only_bias}.")
    if e.written is not None and not e.written.found:
        return Verdict(
            "scores only",
            f"It scores better, does not write so: given answers {said(e.effect)}, written replies "
            f"{_change(e.written)}.{_beside_prompt(e)}",
        )
    works = f"It works: {said(e.effect)}{_and_writes(e)}"
    doubts = (*_near(e), *_vague(e), *_prices(e), *_incoherent(e), *_beaten(e), *_unchecked(e))
    if doubts:
        return Verdict("mixed", f"{works}, but {'; '.join(doubts)}.{_beside_prompt(e)}")
    names = [control.name for control in e.controls] + (["all option orders"] if e.turned is not None else [])
    beyond = f", beyond its controls ({', '.join(names)})" if names else ""
    cost = f"perplexity {ratio(e.price.perplexity_ratio)}, unrelated task {points(e.price.unrelated.value)}"
    return Verdict("good", f"{works}{beyond}. Cost: {cost}.{_beside_prompt(e)}")


def _without_effect(e: Evidence) -> Verdict:
    found = f"No effect found: {said(e.effect)}."
    if e.written is not None and e.written.found:
        return Verdict("mixed", f"It writes so ({_change(e.written)}), though it scores no better: {said(e.effect)}.")
    high = e.effect.interval.high
    if not e.effect.interval.known:
        return Verdict("unclear", f"{found} Too few items to tell.")
    if high > RELEVANT:
        return Verdict("unclear", f"{found} Effects up to {points(high)} are not ruled out: too few items to tell.")
    return Verdict("bad", f"{found} Effects beyond {points(max(high, 0.0))} are ruled out.")


def _explanations(e: Evidence) -> list[str]:
    """Controls that surely show as much in the same direction, or take the effect away."""
    effect, found = e.effect, []
    for control in e.controls:
        if control.effect.value >= _SHARE * effect.value and control.effect.interval.low > 0:
            found.append(f"{control.name} already gains more than half of it, {briefly(control.effect)}")
    if e.turned is not None and (e.turned.interval.low <= 0 or e.turned.value < _SHARE * effect.value):
        found.append(f"it is about a letter, over all option orders {briefly(e.turned)} remains")
    elif e.turned is None and effect.balanced < _SHARE * effect.value:
        left = points(effect.balanced)
        found.append(f"it is about an answer word, averaged over the right answers' words {left} remains")
    return found


def _near(e: Evidence) -> list[str]:
    """Controls whose interval reaches into the vector's, and answers that never change."""
    reach = [
        f"the interval of {control.name} overlaps, {briefly(control.effect)}"
        for control in e.controls
        if control.effect.interval.low < control.effect.interval.high
        and control.effect.interval.high >= e.effect.interval.low
    ]
    if e.constant is not None and e.constant >= 0.95 and e.turned is None:
        share = percent(e.constant, 0)
        reach.append(f"one answer is right for {share} of the items, so behaviour and answer word cannot be told apart")
    return reach


def _vague(e: Evidence) -> list[str]:
    wide = e.effect.interval.high - e.effect.interval.low > VAGUE
    return [f"{e.effect.n} items leave open how large it is"] if wide else []


def _prices(e: Evidence) -> list[str]:
    """What surely goes beyond the budget."""
    price, found = e.price, []
    limit = _RUINED if price.max_perplexity_ratio is None else price.max_perplexity_ratio
    if price.perplexity_interval.low > limit:
        found.append(f"perplexity on neutral text is {ratio(price.perplexity_ratio)}, above {ratio(limit)}")
    if price.max_kl is not None and price.kl > price.max_kl:
        found.append(f"KL on neutral text is {decimal(price.kl, 3)} nats per token, above {decimal(price.max_kl)}")
    if price.unrelated.interval.high < _HARM:
        found.append(f"the unrelated task loses {size(points(price.unrelated.value))}")
    return found


def _incoherent(e: Evidence) -> list[str]:
    if e.texts is None:
        return []
    found = []
    if e.texts.perplexity_ratio > _INCOHERENT:
        times = ratio(e.texts.perplexity_ratio)
        found.append(f"its own example texts read badly, {times} the perplexity of unsteered ones")
    if e.texts.repeated > e.texts.repeated_unsteered + _REPEATED:
        found.append(f"its own example texts repeat themselves, {percent(e.texts.repeated, 0)} of their runs of words")
    return found


def _beaten(e: Evidence) -> list[str]:
    """Baselines that surely do better on the same items."""
    return [
        f"{rival.name} does better, {percent(rival.right, 0)} right against {percent(e.steered, 0)}"
        for rival in (e.prompt, e.few_shot)
        if rival is not None and rival.interval.high < 0
    ]


def _unchecked(e: Evidence) -> list[str]:
    """A check that was not made was not passed."""
    return [f"this fast run did not check {'; '.join(e.unchecked)}"] if e.unchecked else []


def _beside_prompt(e: Evidence) -> str:
    """What the vector can do that the prompt cannot."""
    if e.prompt is None and e.unchecked:
        return ""
    if e.prompt is None:
        return " No fair prompt was given or found, so nothing is said of what a prompt can do."
    lead = f"{points(e.prompt.lead)} against it ({_span(e.prompt.interval)})"
    if e.prompt.interval.low > 0:
        return f" It does what the prompt cannot: {lead}."
    if e.prompt.interval.high < 0:
        return f" It can do nothing here that the prompt cannot: {lead}."
    return f" Nothing shows that it can do more than the prompt: {lead}."


def _and_writes(e: Evidence) -> str:
    if e.written is not None:
        return f", and it writes so, {_change(e.written)}"
    return f" (what it writes is not measured: {e.written_refused})" if e.written_refused else ""


def _change(written: MeanEffect) -> str:
    return f"{shown_number(written.value, written.interval, signed=True)} of 1, n = {written.n}"


def _span(interval: Interval) -> str:
    low, high = points(interval.low), points(interval.high)
    return f"95 % interval {low.removesuffix(' pp')} to {high}" if interval.known else "too few for an interval"
