"""Perplexity of what a steered model wrote, under the unsteered model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tillerman.core.rows import Row
from tillerman.core.store import Store
from tillerman.models.logits import answer_sums
from tillerman.models.opened import OpenModel

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
    nats = here.value("nats of replies", lambda: -float(answer_sums(opened, rows)[0].double().sum()))
    return math.exp(min(_MOST, nats / sum(len(row.tokens) - row.read_from for row in rows)))
