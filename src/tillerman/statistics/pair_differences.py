"""How alike the differences of labelled pairs are, and what a vector made of them tells apart: known before a fit.

``positive_i`` and ``negative_i`` are the activations of pair i, ``d_i = positive_i - negative_i`` their difference and
``v = mean_i d_i`` the vector of ``caa``. Everything here depends on inner products alone: ``gram [2n, 2n]`` are those
of ``positive_1 .. positive_n, negative_1 .. negative_n``.

Figures and their sources: agreement and separability are those by which Braun et al. ("Understanding (Un)Reliability of
Steering Vectors in Language Models", arXiv 2505.22637) tell behaviours that can be steered from those that cannot, here
without the pair's own share in the vector; Tan et al. (arXiv 2407.12404) are why they are wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tillerman.core.errors import UsageError
from tillerman.statistics.values import Interval

LEAST_PAIRS = 10  # two for each fold
_FOLDS = 5
_RESAMPLES = 40
_LEVEL = 0.95
_NOTHING = 1e-12  # of the largest inner product: rounding

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class PairFigures:
    """Of one place in a model.

    ``agreement``: mean cosine of ``d_i`` and ``d_j`` over all i ≠ j: 1 where all pairs differ in one direction, 0 where
    their directions have nothing in common; unlike the mean cosine with ``v`` it does not depend on n.
    ``auc``, ``d_prime``: of held-out examples along ``v``, in five folds whose vector is made of the others: the chance
    that a positive one lies above a negative one, and the gap of their means over the pooled standard deviation within
    a fold and side. ``explained``: the share of the sum of ``|d_i|²`` along its first direction (uncentred; swapping
    the sides of a pair does not change it). ``stability``: mean cosine of the vectors of two bootstrap samples of the
    pairs; about 0.5 where the differences have nothing in common.

    The differences of yes/no pairs are mostly ± (Yes - No), whatever the behaviour is. So two figures leave that out:
    ``auc_within`` is the area among examples that give the same answer (a Yes that is wanted against a Yes that is
    not), ``agreement_within`` the agreement of ``d_i ∓ a``, where ``a`` is half the difference between the mean ``d_i``
    of the one right answer and of the other. None where answers are texts of their own, and the latter for more than
    two."""

    agreement: float
    auc: float
    d_prime: float
    explained: float
    stability: float
    auc_within: float | None = None
    agreement_within: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """By what places are compared: the area within answers where there is one, else the area; then d'."""
        return self.auc if self.auc_within is None else self.auc_within, self.d_prime


@dataclass(frozen=True, eq=False)
class Shuffled:
    """The figures as labelled, with the interval of the agreement, and ``null``: with labels shuffled, draw by draw."""

    figures: PairFigures
    agreement: Interval
    null: tuple[PairFigures, ...]


def pair_figures(gram: Floats, answers: Sequence[str] | None, draws: int, seed: int = 0) -> Shuffled:
    """All figures from inner products ``gram [2n, 2n]``. ``answers [2n]`` are what the examples answer, None where each
    answer is a text of its own.

    Every fold has its share of each right answer: with fewer of one than the rest has it would be read against a vector
    that leans to it. Labels are shuffled by dealing the right answers anew over the pairs where there are two of them,
    which keeps how often each is right, and by a coin for each pair elsewhere.

    ``UsageError`` for fewer than ``LEAST_PAIRS`` pairs."""
    n = len(gram) // 2
    if n < LEAST_PAIRS or (answers is not None and len(answers) != 2 * n):
        raise UsageError(f"{n} pairs: expected at least {LEAST_PAIRS}, and an answer for each of their examples")
    random = np.random.default_rng(seed)
    codes = None if answers is None else np.unique(np.asarray(answers), return_inverse=True)[1].reshape(2, n)
    two = codes is not None and len(np.unique(codes)) == 2
    signs = np.vstack([np.ones(n), _shuffled(codes if two else None, n, draws, random)])
    inner = gram[:n, :n] - gram[:n, n:] - gram[n:, :n] + gram[n:, n:]  # of the differences
    inner[np.abs(inner) <= _NOTHING * np.abs(gram).max(initial=0.0)] = 0.0
    cosines = _cosines(inner)
    found = _held_out(gram, signs, codes, _folds(np.zeros(n) if codes is None else codes[0], random))
    explained = _explained(inner)
    weights = random.multinomial(n, np.full(n, 1 / n), _RESAMPLES) / n
    all_of_them = [
        PairFigures(
            _agreement(cosines * np.outer(sign, sign)),
            float(found.area[k]),
            float(found.distance[k]),
            explained,
            _stability(inner, weights * sign),
            None if found.within is None else float(found.within[k]),
            _apart(inner, codes[0], sign) if codes is not None and two else None,
        )
        for k, sign in enumerate(signs)
    ]
    return Shuffled(all_of_them[0], agreement_interval(cosines), tuple(all_of_them[1:]))


def along_own_mean(gram: Floats) -> tuple[float, float]:
    """Directional agreement and discriminability as Braun et al. (arXiv 2505.22637) take them: the mean cosine of
    ``d_i`` with ``v``, the mean of all ``d_i``, and ``d' = |mean+ - mean-| / sqrt((var+ + var-) / 2)`` of the examples
    along ``v``. From inner products ``gram [2n, 2n]``.

    Each pair has its own share in ``v``, so that both grow as pairs get fewer: differences that have nothing in common
    have a cosine of about ``1 / sqrt(n)``. They compare data sets of one size."""
    n = len(gram) // 2
    inner = gram[:n, :n] - gram[:n, n:] - gram[n:, :n] + gram[n:, n:]
    length = np.sqrt(max(inner.mean(), 0.0))
    sizes = np.sqrt(np.maximum(np.diag(inner), 0.0)) * length
    cosines = np.divide(inner.mean(1), sizes, out=np.zeros(n), where=sizes > 0)
    weights = np.repeat([1 / n, -1 / n], n)
    positive, negative = np.split(gram @ weights / length if length > 0 else np.zeros(2 * n), 2)
    spread = np.sqrt((positive.var() + negative.var()) / 2)
    distance = abs(positive.mean() - negative.mean()) / spread if spread > 0 else 0.0
    return float(cosines.mean()), float(distance)


def mean_figures(many: Sequence[PairFigures]) -> PairFigures:
    """Figure by figure."""
    return _figure_by_figure(many, np.mean)


def highest_figures(many: Sequence[PairFigures]) -> PairFigures:
    """Figure by figure."""
    return _figure_by_figure(many, np.max)


def _figure_by_figure(many: Sequence[PairFigures], make: Callable[[list[float]], Any]) -> PairFigures:
    rows = {f.name: [getattr(one, f.name) for one in many] for f in fields(PairFigures)}
    made: dict[str, Any] = {name: None if None in row else float(make(row)) for name, row in rows.items()}
    return PairFigures(**made)


def agreement_interval(cosines: Floats) -> Interval:
    """95 % interval of the agreement, a U-statistic over pairs, by the jackknife (Arvesen, Annals of Mathematical
    Statistics 40, 1969): ``± t(n - 1) * sqrt((n - 1) / n * sum_i (a_-i - mean)²)``, within -1 and 1."""
    n = len(cosines)
    rows = cosines.sum(1) - np.diag(cosines)
    value, without = rows.sum() / (n * (n - 1)), (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))
    half = stats.t.ppf((1 + _LEVEL) / 2, n - 1) * np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    return Interval(float(max(-1.0, value - half)), float(min(1.0, value + half)))


def _cosines(inner: Floats) -> Floats:
    """Of all differences; 0 with one that is no difference."""
    norms = np.sqrt(np.maximum(np.diag(inner), 0.0))
    lengths = np.outer(norms, norms)
    return np.asarray(np.divide(inner, lengths, out=np.zeros_like(inner), where=lengths > 0))


def _agreement(cosines: Floats) -> float:
    n = len(cosines)
    return float((cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def _apart(inner: Floats, right: Codes, sign: Floats) -> float | None:
    """The agreement without the answers' own direction, under this dealing of the right answers, 0 and 1."""
    side = np.where(right == right.max(), 1.0, -1.0)  # d_i points from the one answer to the other, or back
    dealt = side * sign
    if abs(dealt.sum()) == len(dealt):  # one answer is right for all
        return None
    share = np.where(dealt > 0, 0.5 / (dealt > 0).sum(), -0.5 / (dealt < 0).sum())
    taken = np.eye(len(side)) - np.outer(dealt, share)
    return _agreement(_cosines(taken @ (inner * np.outer(sign, sign)) @ taken.T))


def _explained(inner: Floats) -> float:
    total = float(np.trace(inner))
    return float(np.linalg.eigvalsh(inner)[-1]) / total if total > 0 else 0.0


def _stability(inner: Floats, weights: Floats) -> float:
    """Mean cosine of the vectors ``weights @ d``, of every two of them."""
    return _agreement(_cosines(weights @ inner @ weights.T))


def _shuffled(codes: Codes | None, n: int, draws: int, random: np.random.Generator) -> Floats:
    """For each draw and pair 1, or -1 where its sides are swapped ``[draws, n]``."""
    if codes is None:
        return np.asarray(random.choice([-1.0, 1.0], (draws, n)))
    dealt = random.permuted(np.tile(codes[0], (draws, 1)), axis=1)
    return np.where(dealt == codes[0], 1.0, -1.0)


def _folds(right: NDArray[Any], random: np.random.Generator) -> Codes:
    """The fold of each pair, dealt in turn within each right answer."""
    folds, dealt = np.zeros(len(right), dtype=np.int64), 0
    for name in np.unique(right):
        places = random.permutation(np.flatnonzero(right == name))
        folds[places] = (dealt + np.arange(len(places))) % _FOLDS
        dealt += len(places)
    return folds


@dataclass(frozen=True, eq=False)
class _HeldOut:
    """Of each draw ``[draws]``."""

    area: Floats
    distance: Floats
    within: Floats | None


def _held_out(gram: Floats, signs: Floats, codes: Codes | None, folds: Codes) -> _HeldOut:
    """What the vectors of the other folds tell apart, for each row of ``signs [draws, n]``. Scores of different folds
    are never compared, since each has a vector of its own."""
    draws, n = signs.shape
    rounding = _NOTHING * 2 * n * np.abs(gram).max(initial=0.0)
    above, gap, spread, same, counted = (np.zeros(draws) for _ in range(5))
    for fold in range(_FOLDS):
        out = np.flatnonzero(folds == fold)
        made = np.where(folds == fold, 0.0, signs)
        weights = np.hstack([made, -made]).T  # [2n, draws]
        seen = gram @ weights
        squared = (weights * seen).sum(0)
        length = np.sqrt(np.where(squared > rounding, squared, 0.0))
        along = np.divide(seen, length, out=np.zeros_like(seen), where=length > 0)
        kept = signs[:, out] > 0  # [draws, held out]
        positive, negative = _sides(kept, along[out].T, along[n + out].T)
        won = (1 + np.sign(positive[:, :, None] - negative[:, None, :])) / 2
        above += len(out) / n * won.mean((1, 2))
        gap += len(out) / n * (positive.mean(1) - negative.mean(1))
        spread += len(out) * (positive.var(1) + negative.var(1))
        if codes is not None:
            here, there = _sides(kept, codes[0, out], codes[1, out])
            alike = here[:, :, None] == there[:, None, :]
            same += (won * alike).sum((1, 2))
            counted += alike.sum((1, 2))
    deviation = np.sqrt(spread / (2 * (n - _FOLDS)))
    distance = np.divide(gap, deviation, out=np.zeros(draws), where=deviation > 0)
    within = None if codes is None or not counted.all() else same / counted
    return _HeldOut(above, distance, within)


def _sides(kept: NDArray[np.bool_], first: NDArray[Any], second: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both sides after the swaps."""
    return np.where(kept, first, second), np.where(kept, second, first)
