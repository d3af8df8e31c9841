"""What a model writes in answer to each item under each of many plans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from tillerman.core.facts import digest_of
from tillerman.core.plan import Plan
from tillerman.core.rows import Progress, silent
from tillerman.core.store import Store
from tillerman.data.thoughts import Reply, has_think_tags, read_reply, think_tags
from tillerman.data.writing import Written
from tillerman.models.batches import token_budget
from tillerman.models.memory import fitting, in_two, within
from tillerman.models.opened import OpenModel
from tillerman.steering.generation import Sampling, continuation_tokens, stop_tokens

MOST_ROWS = 128  # of one batch on the CPU; more no longer gain


def replies_under(
    opened: OpenModel,
    written: Sequence[Written],
    plans: Sequence[Plan],
    limit: int,
    *,
    store: Store,
    progress: Progress = silent,
) -> list[list[Reply]]:
    """The most likely replies ``[plans][items]``, of at most ``limit`` tokens.

    A batch may hold several plans; a row does not depend on its neighbours. Finished batches are in ``store``,
    by model, prompts and plans.
    ``progress`` is told plans times items.
    """
    tags = think_tags(opened.tokenizer) if has_think_tags(opened.tokenizer) else None
    stops = stop_tokens(opened)
    order = sorted(range(len(written)), key=lambda i: len(written[i].prompt))
    rows = [(k, i) for k in range(len(plans)) for i in order]  # a plan that breaks the model does not affect the others
    digests = list(map(digest_of, plans))
    size = _rows_at_once(opened, max(len(w.prompt) for w in written) + limit)
    said: list[list[Reply | None]] = [[None] * len(written) for _ in plans]

    def run(batch: Sequence[tuple[int, int]]) -> list[list[int]]:
        prompts = [written[i].prompt for _, i in batch]
        mine = [plans[k] for k, _ in batch]
        make = partial(continuation_tokens, opened, prompts, mine, Sampling(limit), unsteered=True)
        here = store.scoped(opened.identity, limit, prompts, [digests[k] for k, _ in batch])
        found: list[list[int]] = here.value("replies", make)
        return found

    work: Iterator[Sequence[tuple[int, int]]] = (rows[at : at + size] for at in range(0, len(rows), size))
    for batch, tokens in fitting(opened.parts, work, run, in_two):
        for (k, i), reply in zip(batch, tokens, strict=True):
            said[k][i] = read_reply(opened.tokenizer, tags, written[i].prompt, reply, stops)
        progress(len(batch))
    return [[reply for reply in of_plan if reply is not None] for of_plan in said]


def _rows_at_once(opened: OpenModel, longest: int) -> int:
    if opened.device.type == "cpu":
        return within(opened.parts, MOST_ROWS)
    return max(1, token_budget(opened.parts) // longest)
