"""Perplexity of what a steered model wrote, under the unsteered model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from tillerman.core.rows import Row
from tillerman.core.store import Store
from tillerman.models.grid import branch_fault
from tillerman.models.logits import answer_sums
from tillerman.models.opened import OpenModel
from tillerman.models.unsteered import unsteered_answers

_MOST = 700.0  # nats per token; exp of more is no float


def perplexity_of(
    opened: OpenModel, texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]], store: Store | None = None
) -> float | None:
    """``exp`` of the mean nats per token over all tokens of ``texts``, pairs of a prompt and what follows it.

    Prompts are read, not counted. None of no tokens. ``store`` keeps the sum."""
    rows = [Row(prompt + tokens, len(prompt)) for prompt, tokens in texts if tokens]
    if not rows:
        return None
    here = (store or Store(None, "")).scoped(opened.identity, rows)
    nats = here.value("nats of replies", lambda: _nats(opened, rows))
    return math.exp(min(_MOST, nats / sum(len(row.tokens) - row.read_from for row in rows)))


def _nats(opened: OpenModel, rows: Sequence[Row]) -> float:
    """Of all tokens that are read; a prompt runs once for all its texts, and what prompts begin with once for all."""
    if branch_fault(opened) is not None or not all(row.read_from for row in rows):
        return -float(answer_sums(opened, rows)[0].double().sum())
    texts: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for row in rows:
        texts.setdefault(row.tokens[: row.read_from], []).append(row.tokens[row.read_from :])
    means = unsteered_answers(opened, list(texts), list(texts.values()))
    lengths = ([len(text) for text in mine] for mine in texts.values())
    return -float(sum((m.double() * torch.tensor(n)).sum() for m, n in zip(means, lengths, strict=True)))
