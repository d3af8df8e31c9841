"""Evolutionary prompt optimisation: search for a text that raises an objective and stays likely (EPO: Thompson,
Straznickas, Sklar, "Fluent dreaming", arXiv 2402.01702, section 2). Knows no model and no steering.

Maximised is ``f(t) - weight * X(t)``, X the mean cross-entropy of the text in nats per token, for a population whose
members have a weight each. One member of weight 0 is greedy coordinate gradient (GCG: Zou et al., arXiv 2307.15043).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.errors import UsageError
from tillerman.core.rows import Progress, silent

AT_ONCE = 64  # texts that are tried before a search may end
_DRAWS = 50  # rounds of drawing texts that are unchanged after decoding and encoding


def spread(count: int, low: float = 0.1, high: float = 10.0) -> tuple[float, ...]:
    """Weights evenly apart by logarithm."""
    return tuple(torch.logspace(float(torch.tensor(low).log10()), float(torch.tensor(high).log10()), count).tolist())


class Objective(Protocol):
    """What is maximised, over texts of ``width`` tokens."""

    @property
    def width(self) -> int: ...
    @property
    def allowed(self) -> Bool[Tensor, " v"]:
        """Tokens that may stand in a text."""

    def scores(self, tokens: Int[Tensor, "n w"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """f and X of each text."""

    def gradient(self, tokens: Int[Tensor, "m w"], weights: Float[Tensor, " m"]) -> Float[Tensor, "m w v"]:
        """Of ``f - weight * X`` with respect to the one-hot vectors of each text's tokens."""

    def survives(self, tokens: Int[Tensor, "n w"]) -> Bool[Tensor, " n"]:
        """Whether decoding and encoding give the same tokens again: else nobody can type the text."""


@dataclass(frozen=True)
class EpoOptions:
    """``weights``: one per member. Each iteration makes ``children`` of every member by exchanging one token for
    one of the ``top`` by gradient; every ``restart`` iterations all members become the best under one weight."""

    weights: tuple[float, ...] = spread(8)
    iterations: int = 300
    children: int = 32
    top: int = 512
    restart: int = 50

    def __post_init__(self) -> None:
        if not self.weights or min(self.weights) < 0:
            raise UsageError(f"weights {self.weights}: expected at least one, none below 0")
        for name in ("iterations", "children", "top", "restart"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}: expected at least 1")

    @property
    def candidates(self) -> int:
        """Texts that are tried, the first population included."""
        return len(self.weights) * (1 + self.iterations * self.children)


@dataclass(frozen=True)
class FoundText:
    """A text, its f and X, and how many had been tried with it."""

    tokens: tuple[int, ...]
    value: float
    cross_entropy: float
    tried: int


@dataclass(frozen=True)
class Search:
    """``records``: each text whose f was above that of all tried before it. ``front``: the texts that no other
    beats in f and X at once, by rising X. ``refused``: drawn texts that did not come back from decoding."""

    records: tuple[FoundText, ...]
    front: tuple[FoundText, ...]
    tried: int
    refused: int


def optimise(objective: Objective, options: EpoOptions, *, seed: int, progress: Progress = silent) -> Search:
    """The search; the same seed gives the same result. ``progress`` is told the texts tried.

    ``UsageError`` where the tokenizer gives no random text back as it was.
    """
    rng = torch.Generator().manual_seed(seed)
    weights, log = torch.tensor(options.weights), _Log()
    population = random_texts(objective, len(weights), rng, log)
    f, x = log.try_all(objective, population, progress)
    for iteration in range(1, options.iterations + 1):
        children = _children(objective, options, population, weights, rng, log)
        if len(children):
            new_f, new_x = log.try_all(objective, children, progress)
            population, f, x = (torch.cat(both) for both in ((population, children), (f, new_f), (x, new_x)))
        best = (f - weights[:, None] * x).argmax(1)
        if iteration % options.restart == 0:
            best = best[torch.randint(len(weights), (1,), generator=rng)].expand(len(weights))
        population, f, x = population[best], f[best], x[best]
    return log.search()


def try_texts(
    objective: Objective, tokens: Int[Tensor, "n w"], progress: Progress = silent, *, enough: float = math.inf
) -> Search:
    """Given texts in their order, without a search: what one has to be compared with. Ends with the first
    ``AT_ONCE`` that hold a text whose f is above ``enough``; ``progress`` is told all texts."""
    log = _Log()
    for some in tokens.split(AT_ONCE):  # type: ignore[no-untyped-call]
        log.try_all(objective, some, progress)
        if log.best > enough:
            break
    found = log.search()
    progress(len(tokens) - found.tried)
    return found


def random_texts(objective: Objective, count: int, rng: torch.Generator, log: _Log | None = None) -> Tensor:
    """Texts of allowed tokens, each equally likely, that come back from decoding, ``[count, w]``."""
    known, kept = objective.allowed.nonzero()[:, 0], torch.empty(0, objective.width, dtype=torch.long)
    for _ in range(_DRAWS):
        drawn = known[torch.randint(len(known), (4 * count, objective.width), generator=rng)]
        kept = torch.cat([kept, (log or _Log()).surviving(objective, drawn)])
        if len(kept) >= count:
            return kept[:count]
    raise UsageError(
        f"of {4 * count * _DRAWS} random texts of {objective.width} tokens only {len(kept)} are "
        "unchanged after decoding and encoding; choose fewer tokens"
    )


def _children(
    objective: Objective,
    options: EpoOptions,
    parents: Int[Tensor, "m w"],
    weights: Float[Tensor, " m"],
    rng: torch.Generator,
    log: _Log,
) -> Int[Tensor, "n w"]:
    """Each parent with one token exchanged, at a place drawn evenly, for one drawn evenly from the best there."""
    slope = objective.gradient(parents, weights).masked_fill(~objective.allowed, -torch.inf)
    best = slope.topk(min(options.top, int(objective.allowed.sum())), dim=2).indices
    rows = torch.arange(len(parents)).repeat_interleave(options.children)
    places = torch.randint(objective.width, rows.shape, generator=rng)
    ranks = torch.randint(best.shape[2], rows.shape, generator=rng)
    made = parents[rows].clone()
    made[torch.arange(len(rows)), places] = best[rows, places, ranks]
    return log.surviving(objective, made)


class _Log:
    """What was tried so far."""

    def __init__(self) -> None:
        self._records: list[FoundText] = []
        self._front: list[FoundText] = []
        self._tried = self._refused = 0

    @property
    def best(self) -> float:
        return self._records[-1].value if self._records else -math.inf

    def surviving(self, objective: Objective, tokens: Int[Tensor, "n w"]) -> Int[Tensor, "k w"]:
        kept = tokens[objective.survives(tokens)]
        self._refused += len(tokens) - len(kept)
        return kept

    def try_all(self, objective: Objective, tokens: Int[Tensor, "n w"], progress: Progress) -> tuple[Tensor, Tensor]:
        """f and X; what is not a number is never kept."""
        f, x = (part.float().cpu() for part in objective.scores(tokens))
        sane = f.isfinite() & x.isfinite()
        f, x = f.masked_fill(~sane, -torch.finfo().max), x.masked_fill(~sane, 0.0)
        found = [
            FoundText(tuple(row), value, entropy, self._tried + place)
            for place, (row, value, entropy) in enumerate(
                zip(tokens.tolist(), f.tolist(), x.tolist(), strict=True), start=1
            )
        ]
        for one, real in zip(found, sane.tolist(), strict=True):
            if real and (not self._records or one.value > self._records[-1].value):
                self._records.append(one)
        self._front = pareto([*self._front, *(one for one, real in zip(found, sane.tolist(), strict=True) if real)])
        self._tried += len(found)
        progress(len(found))
        return f, x

    def search(self) -> Search:
        return Search(tuple(self._records), tuple(self._front), self._tried, self._refused)


def pareto(found: list[FoundText]) -> list[FoundText]:
    """Those with a higher f than all that are as likely or likelier, by rising X."""
    kept: list[FoundText] = []
    for one in sorted(found, key=lambda one: (one.cross_entropy, -one.value)):
        if not kept or one.value > kept[-1].value:
            kept.append(one)
    return kept
