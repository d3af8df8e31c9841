"""What an evaluation keeps beside rates: prompts tried, bias, written replies, doses that work, every answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from tillerman.statistics.values import Effect, Interval, MeanEffect, ScoreMean


@dataclass(frozen=True)
class PromptTrial:
    """A candidate for the prompt baseline and its share of right answers on validation items
    (what replies are worth, from 0 to 1, where a search goes by them), None for a prompt that
    was given and so not searched for. ``source``: given, described by the user, made of the data, written by the
    model, or no prompt, whose text is empty."""

    text: str
    source: str
    score: float | None = None


@dataclass(frozen=True)
class Discrimination:
    """How well the log-odds between answers tell apart which answer is right, whatever the model prefers to say.

    ``auc``: over pairs of items with different right answers, how often the log-odds are ordered rightly (Hand and
    Till 2001 for more than two answers). ``d_prime``: difference of the means over the pooled standard deviation.
    Both are None where one answer is right for all items. ``rates``: share of items to which each answer is given:
    the criterion."""

    condition: str
    auc: float | None
    d_prime: float | None
    rates: dict[str, float]


@dataclass(frozen=True)
class MovedWrong:
    """Of the ``n`` items whose ``field`` has this ``value``, the share that moved the wrong way. ``p_value``: Fisher's
    exact test against the other items, adjusted for all values looked at (Holm)."""

    field: str  # right answer, unsteered, or a field of the data
    value: str
    share: float
    interval: Interval
    n: int
    p_value: float


@dataclass(frozen=True)
class Bias:
    """Detection theory of the test items. ``answers``: what the answers are told apart by (answer word, letter,
    length). ``change``: of the AUC, steered minus unsteered; None where there is none, or where an answer is right
    for too few items. ``moved_wrong``: the share of items whose log-odds for the right answer fell. ``conditions``
    begin with unsteered and steered.

    ``beyond``: steered minus what the unsteered model would get right if a constant were added to each answer's
    log-probability such that it is given as often as under steering; None where there is no AUC. ``slope``: of the
    right answer's log-odds against dose, the mean over items in nats per unit of dose; ``slope_wrong``: the share of
    items whose slope is below 0. Both are None where there is no dose curve. ``wrong_interval`` and
    ``slope_wrong_interval`` are Wilson's, ``slope_interval`` a bootstrap's over items; None in older logs.
    ``wrong_by``: who moved the wrong way."""

    answers: str
    conditions: tuple[Discrimination, ...]
    change: MeanEffect | None
    moved_wrong: float
    beyond: Effect | None = None
    slope: float | None = None
    slope_wrong: float | None = None
    wrong_interval: Interval | None = None
    slope_interval: Interval | None = None
    slope_wrong_interval: Interval | None = None
    wrong_by: tuple[MovedWrong, ...] = ()

    def condition(self, name: str) -> Discrimination:
        return next(one for one in self.conditions if one.condition == name)


@dataclass(frozen=True)
class FirstLook:
    """What the unsteered model makes of ``n`` items before anything is fitted, and the first of them as it saw them.
    ``right``: the share of items for which each answer is right; ``interval``: of the AUC, None where there is none.
    ``unsteered`` is None for items that have no answers in common."""

    n: int
    answers: str
    unsteered: Discrimination | None
    right: dict[str, float]
    interval: Interval | None
    items: tuple[ItemResult, ...]


@dataclass(frozen=True)
class WrittenScorer:
    """A scorer of replies made from the labels: what it reads, and its AUC on wanted against unwanted answers of
    the test items. ``refused``: why it measures nothing, empty where it does."""

    name: str
    auc: float
    interval: Interval
    n: int
    refused: str = ""


@dataclass(frozen=True)
class WrittenCondition:
    """Replies to the held-out prompts under one condition, of a null averaged over its draws.

    ``score``: mean P(wanted); None where no reply has a word. ``change``: paired, against unsteered; None for
    unsteered, and where fewer than two prompts were answered both times. ``perplexity``: of the replies after the
    plain prompt, under the unsteered model; None of no tokens. ``repetition``: mean share of runs of four words that
    were there before. ``replies``: in the order of the prompts, of a null its first draw's. ``shown``: the share of
    replies that show the behaviour: they score above one half and are no loops. ``lead``: of the prompt and the
    few-shot baseline, steered minus it on the same prompts. Older logs have neither."""

    name: str
    score: ScoreMean | None
    change: MeanEffect | None
    perplexity: float | None
    repetition: float
    replies: tuple[str, ...] = ()
    shown: ScoreMean | None = None
    lead: MeanEffect | None = None


@dataclass(frozen=True)
class WrittenReplies:
    """What the model writes, beside what it scores. Conditions are empty where the scorer was refused. ``prompts``
    were answered in at most ``tokens`` tokens each."""

    scorer: WrittenScorer
    conditions: tuple[WrittenCondition, ...]
    prompts: tuple[str, ...] = ()
    tokens: int = 0

    def condition(self, name: str) -> WrittenCondition | None:
        return next((one for one in self.conditions if one.name == name), None)


@dataclass(frozen=True)
class Coherence:
    """Of the example texts at the chosen strength and of the unsteered ones: perplexity under the unsteered model, and
    the share of their runs of four words that were there before. ``texts``: how many of each."""

    texts: int
    perplexity_unsteered: float
    perplexity_steered: float
    repeated_unsteered: float
    repeated_steered: float


@dataclass(frozen=True)
class DoseRange:
    """Doses between which the effect is found on validation items and the budget is kept; ``best`` was chosen."""

    low: float
    high: float
    best: float


@dataclass(frozen=True)
class ItemAnswer:
    """One answer to one item under one condition; ``logprobs`` of each option, up to a constant of the item; empty
    where the answer was written freely."""

    condition: str
    given: str
    right: bool
    logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class ItemResult:
    """One test item: the question as the model saw it, the options in the order shown, the right one, all answers.
    ``slope``: of the right answer's log-odds against dose, in nats per unit of dose; None where there is no dose curve.
    ``fields``: what the data say of the item besides."""

    id: str
    question: str
    options: tuple[str, ...]
    right: str
    answers: tuple[ItemAnswer, ...]
    slope: float | None = None
    fields: dict[str, str] = field(default_factory=dict)
