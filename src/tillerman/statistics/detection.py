"""Detection theory of answers: what a model can tell apart, and which answer it leans to.

Green and Swets, "Signal Detection Theory and Psychophysics" (1966); Macmillan and Creelman, "Detection Theory: A
User's Guide" (2005), chapters 1 and 2. *Discrimination* is how well the log-odds between answers order the items by
their right answers; *criterion* is how often each answer is given. A constant that is added to an answer's
log-probability changes the criterion and nothing else.

``logs [n, k]`` are log-probabilities of k answers, up to a constant of the item; minus infinity where the item has no
such answer, NaN where the model is broken. ``right [n]`` is the place of the right answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.statistics.values import Interval, MeanEffect

LEAST = 8  # items of each right answer below which an AUC has no interval
_LEVEL = 0.95
_FLOOR = 0.25  # added to each answer's sum of squares: half an item more that moves half the way up, and half one down
_MISSING = -1e9  # log-probability of an answer that an item does not have
_SWEEPS = 50  # over the answers; a few are enough

Logs = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ordered:
    """An AUC, and for each right answer what its items add to it ``[n_answer]`` (placement values)."""

    auc: float
    parts: tuple[NDArray[np.float64], ...]


def auc(logs: Logs, right: Places) -> float | None:
    """How often of two items with different right answers a and b the log-odds of a against b are higher for the item
    whose right answer is a (ties count half), averaged over all pairs of answers.

    For two answers the area under the ROC curve, the Mann-Whitney statistic of the log-odds. For more Hand and Till's
    M (Machine Learning 45, 2001, equation 7) over the odds of a against b instead of the probability of a, so that a
    constant added to any answer changes nothing. None where no two items have different right answers, or where the
    model is broken.
    """
    found = ordered(logs, right)
    return None if found is None else found.auc


def d_prime(logs: Logs, right: Places) -> float | None:
    """Difference of the mean log-odds of items with different right answers over their pooled standard deviation,
    averaged over pairs of answers (Macmillan and Creelman 2005, chapter 1). None where an ``auc`` is, where an answer
    is right for a single item, and where the log-odds do not vary."""
    found = []
    for _, _, first, second in _pairs(logs, right):
        if min(len(first), len(second)) < 2:
            continue
        spread = float(np.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 2))
        if spread > 0:
            found.append(float(first.mean() - second.mean()) / spread)
    return float(np.mean(found)) if found else None


def rates(logs: Logs) -> NDArray[np.float64]:
    """The share of items to which each answer is given ``[k]``: the criterion. A broken model gives none."""
    given = answers(logs)
    return np.array([(given == place).mean() for place in range(logs.shape[1])])


def answers(logs: Logs) -> Places:
    """The most likely answer of each item ``[n]``, -1 where the model is broken."""
    broken = np.asarray(np.isnan(logs).any(1))
    return np.where(broken, -1, np.where(broken[:, None], 0.0, logs).argmax(1))


def odds(logs: Logs, right: Places) -> NDArray[np.float64]:
    """Log-odds of each item's right answer against all others, in nats ``[n]``."""
    at = np.arange(len(right))
    others = logs.copy()
    others[at, right] = -np.inf
    with np.errstate(invalid="ignore"):  # of a broken model
        return np.asarray(logs[at, right] - np.logaddexp.reduce(others, 1))


def moved_wrong(after: Logs, before: Logs, right: Places) -> float:
    """The share of items whose log-odds for the right answer fell, or that have none any more."""
    return float((~(odds(after, right) >= odds(before, right))).mean())


def slopes(doses: NDArray[np.float64], curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares slope of each item's log-odds ``curve [doses, n]`` against dose, in nats per unit of dose ``[n]``
    (Tan et al., arXiv 2407.12404, section 3: steerability). Doses at which the model is broken are left out; NaN for
    an item with fewer than two."""
    there = np.isfinite(curve)
    count = there.sum(0)
    x = np.where(there, doses[:, None], 0.0)
    y = np.where(there, curve, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(there, x - x.sum(0) / count, 0.0)
        return np.asarray(np.where(count > 1, (centred * y).sum(0) / (centred**2).sum(0), np.nan))


def auc_interval(logs: Logs, right: Places) -> Interval | None:
    """95 % interval of the ``auc``, within 0 and 1; None where there is none, or too few items."""
    found = ordered(logs, right)
    error = None if found is None else _error(found.parts)
    if found is None or error is None:
        return None
    half = error.half
    return Interval(max(0.0, found.auc - half), min(1.0, found.auc + half))


def auc_change(after: Logs, before: Logs, right: Places) -> MeanEffect | None:
    """AUC after minus before on the same items, with a 95 % interval and p from placement values (DeLong, DeLong and
    Clarke-Pearson, Biometrics 44, 1988) and Welch's degrees of freedom. Conservative where few items change: a
    quarter is added to each answer's sum of squares, so that no change at all still has a width.

    None where either has no AUC, or where an answer is right for fewer than ``LEAST`` items.
    """
    new, old = ordered(after, right), ordered(before, right)
    if new is None or old is None:
        return None
    error = _error(tuple(a - b for a, b in zip(new.parts, old.parts, strict=True)))
    if error is None:
        return None
    change = new.auc - old.auc
    p_value = float(2 * stats.t.sf(abs(change) / error.spread, error.freedom))
    return MeanEffect(change, Interval(change - error.half, change + error.half), p_value, len(right))


def at_rates(logs: Logs, given: Places) -> Places:
    """The answers ``[n]`` if to each answer's log-probability a constant were added such that every answer is given
    as often as in ``given`` (as nearly as ties allow): another condition's criterion, this one's discrimination.

    The constants are the prices of the assignment of answers to items, in these numbers, that has the highest sum of
    log-probabilities; they are found one answer at a time, until all numbers are right.
    """
    there = given >= 0
    if np.isnan(logs).any() or not there.any():
        return answers(logs)
    counts = np.bincount(given[there], minlength=logs.shape[1])
    counts[np.argmax(counts)] += len(given) - counts.sum()
    priced = np.where(np.isneginf(logs), _MISSING, logs)
    for _ in range(_SWEEPS):
        for answer, count in enumerate(counts.tolist()):
            rest = np.delete(priced, answer, 1).max(1)
            needed = np.sort(rest - priced[:, answer])
            low = needed[count - 1] if count else needed[0] - 2
            high = needed[count] if count < len(needed) else needed[-1] + 2
            priced[:, answer] += (low + high) / 2
        if (np.bincount(priced.argmax(1), minlength=len(counts)) == counts).all():
            break
    return np.asarray(priced.argmax(1))


def ordered(logs: Logs, right: Places) -> Ordered | None:
    """The AUC with its placement values; None where there is none."""
    pairs = list(_pairs(logs, right))
    if not pairs or np.isnan(logs).any():
        return None
    parts = {answer: np.zeros(int((right == answer).sum())) for answer in np.unique(right).tolist()}
    areas = []
    for a, b, first, second in pairs:
        above_b, above_a = _placed(first, second), _placed(second, first)
        areas.append(float(above_b.mean()))
        for answer, other, values in ((a, b, above_b), (b, a, 1 - above_a)):
            parts[answer][_have(logs, right, answer, other)] += values / len(pairs)
    return Ordered(float(np.mean(areas)), tuple(parts.values()))


@dataclass(frozen=True)
class _Error:
    spread: float
    freedom: float

    @property
    def half(self) -> float:
        return float(stats.t.ppf((1 + _LEVEL) / 2, self.freedom)) * self.spread


def _error(parts: tuple[NDArray[np.float64], ...]) -> _Error | None:
    """Standard error of a sum of the means of independent groups, and its degrees of freedom (Welch 1947)."""
    if min(map(len, parts)) < LEAST:
        return None
    floor = _FLOOR * (2 / len(parts)) ** 2  # an item is in a share 2/k of the pairs of k answers
    shares = [(float(((p - p.mean()) ** 2).sum()) + floor) / len(p) ** 2 for p in parts]
    freedom = sum(shares) ** 2 / sum(s**2 / (len(p) - 1) for s, p in zip(shares, parts, strict=True))
    return _Error(sum(shares) ** 0.5, freedom)


def _pairs(logs: Logs, right: Places) -> Iterator[tuple[int, int, NDArray[np.float64], NDArray[np.float64]]]:
    """Two answers, and the log-odds of the first against the second where the first is right, where the second is."""
    for a, b in combinations(np.unique(right).tolist(), 2):
        mine, other = _have(logs, right, a, b), _have(logs, right, b, a)
        if mine.any() and other.any():
            first, second = logs[right == a][mine], logs[right == b][other]
            yield a, b, first[:, a] - first[:, b], second[:, a] - second[:, b]


def _have(logs: Logs, right: Places, answer: int, other: int) -> NDArray[np.bool_]:
    """Of the items with this right answer, those that have the other answer too."""
    return np.asarray(~np.isneginf(logs[right == answer][:, other]))


def _placed(values: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each value the share of others below it, ties counted half."""
    sorted_ = np.sort(among)
    below = np.searchsorted(sorted_, values, "left") + np.searchsorted(sorted_, values, "right")
    return np.asarray(below / (2 * len(among)))
