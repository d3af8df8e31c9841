"""Jobs by hand: batches that are driven pass by pass, and what ``steer`` and ``generate`` make of one job alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tillerman.core.plan import Intervention, Plan
from tillerman.models.opened import OpenModel
from tillerman.models.running import Manner, manner_of
from tillerman.serving.engine import Chunk, Drawing, Ended, Job, Taken
from tillerman.serving.engines.local.batch import RunningBatch
from tillerman.serving.engines.local.mailbox import Mailbox
from tillerman.serving.engines.local.row import AnswerRow
from tillerman.serving.engines.local.wording import Words
from tillerman.steering.generation import stop_tokens
from tillerman.steering.joining import JoiningPlans
from tillerman.steering.steer import steer

from ... import tiny

NO_END = {2: -100.0}  # a bias under which no tiny model ends its text
LOOP = asyncio.new_event_loop()  # nobody runs it: what is told to it waits


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: tuple[Taken, ...]
    ended: Ended
    pieces: int = 1

    @property
    def ids(self) -> list[int]:
        return [one.token for one in self.tokens]

    @property
    def logprobs(self) -> list[float]:
        return [one.logprob for one in self.tokens]


def by_hand(plan: Plan) -> Plan:
    """The plan with vectors that were fitted on no model, so that any model of their shape takes them."""
    return tuple(
        replace(i, steering=replace(i.steering, provenance=replace(i.steering.provenance, model_fingerprint="")))
        for i in plan
    )


def vector(point, strength=1.5, operator="add", scope=None, gate=None, seed=1) -> Intervention:
    given = {} if scope is None else {"scope": scope}
    return by_hand((Intervention(tiny.vector(point, seed=seed), strength, operator, gate=gate, **given),))[0]


def job(prompt, plan=(), *, max_tokens=8, logprobs: int | None = 3, temperature=0.0, **drawing) -> Job:
    names = tuple(f"name{i}" for i in range(len(plan)))
    how = Drawing(max_tokens, temperature=temperature, logprobs=logprobs, **drawing)
    return Job("id", tuple(prompt), tuple(plan), names, "fp", how)


def gathered(parts: Sequence[Chunk | Ended]) -> Answer:
    pieces = [one for one in parts if isinstance(one, Chunk)]
    (ended,) = [one for one in parts if isinstance(one, Ended)]
    tokens = tuple(taken for piece in pieces for taken in piece.tokens)
    return Answer("".join(piece.text for piece in pieces), tokens, ended, len(pieces))


@torch.inference_mode()
def drive(
    opened: OpenModel,
    jobs: Sequence[Job],
    begins: Sequence[int] | None = None,
    *,
    at_once: int = 256,
    manner: Manner | None = None,
) -> list[Answer]:
    """All jobs in the batches of one round after another; job i comes in round ``begins[i]``, and those that come
    together begin as one batch."""
    manner = manner or manner_of(opened)
    begins = [0] * len(jobs) if begins is None else begins
    words, ends = Words(opened.tokenizer), frozenset(stop_tokens(opened))
    boxes = [Mailbox(one, LOOP) for one in jobs]
    rows = [AnswerRow(box, words, ends, 10_000, ()) for box in boxes]
    batches: list[RunningBatch] = []
    plans = JoiningPlans(opened.parts)
    now = 0
    while batches or now <= max(begins):
        new = [row for row, begin in zip(rows, begins, strict=True) if begin == now]
        if new:
            batches.append(RunningBatch(opened, manner, new, at_once))
        for batch in batches:
            batch.advance(plans)
            batch.drop()
        batches = [batch for batch in batches if not batch.over]
        for batch in batches[1:]:
            if batches[0].takes(batch, 100):
                batches[0].join(batch)
                batches.remove(batch)
        now += 1
    plans.release()
    return [gathered(box.collect()) for box in boxes]


@torch.inference_mode()
def alone(opened: OpenModel, one: Job) -> tuple[list[int], list[float], tuple[dict[str, int], ...]]:
    """Tokens without the end token, their log-probabilities, and the receipt, of a plain greedy ``generate``."""

    def run():
        ids = torch.tensor([one.prompt])
        out = opened.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=one.drawing.max_tokens,
            min_new_tokens=one.drawing.max_tokens if one.drawing.logit_bias == NO_END else None,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
        )
        tokens = out.sequences[0, len(one.prompt) :].tolist()
        said = [logits[0].log_softmax(0)[token].item() for logits, token in zip(out.logits, tokens, strict=True)]
        keep = [i for i, token in enumerate(tokens) if token not in stop_tokens(opened)]
        return [tokens[i] for i in keep], [said[i] for i in keep]

    if not one.plan:
        return *run(), ()
    with steer(opened.model, one.plan) as steered:
        tokens, logprobs = run()
    return tokens, logprobs, tuple(dict(record.tokens) for record in steered.receipt.applied)
