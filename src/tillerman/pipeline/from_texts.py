"""A vector from two lists of texts or chats, in one call and without a search: nothing is chosen, nothing measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import DataError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.plan import Scope
from tillerman.core.rows import Row
from tillerman.data.marked_scopes import after_instruction
from tillerman.data.writing import start_free
from tillerman.methods.estimators import ESTIMATORS
from tillerman.methods.fit import Activations, fit
from tillerman.models.capture import capture
from tillerman.models.opened import OpenModel

Chat = Sequence[Mapping[str, str]]  # messages: {"role": "user", "content": "..."}
DOSE = 0.4  # of the stream, in all: see docs/design/decisions.md


def vector_from(
    model: OpenModel,
    positives: Sequence[str | Chat],
    negatives: Sequence[str | Chat],
    *,
    layers: int | Sequence[int] | None = None,
    estimator: str = "mean_difference",
    dose: float = DOSE,
    paired: bool = True,
    name: str = "two lists",
) -> Artefact:
    """An artefact that steers towards the positives, from texts or chats (lists of ``role`` and ``content``).

    Texts are read as the mean over their tokens and steer every token; chats are read at their last token, where a
    message of the assistant is closed or is about to open, and steer from the end of the question on. ``estimator`` is
    one of ``methods.estimators``; its method is ``caa``. ``paired``: text i of one list belongs to text i of the other.

    Nothing is searched and nothing measured, so layer and dose are a convention: the block in the middle
    (``(layers - 1) // 2``), and ``DOSE`` times the norm of the stream. Several ``layers`` are steered together and
    share the dose. The artefact has no card until ``evaluate`` or ``tillerman eval`` tests it on data.
    ``DataError`` for lists that are empty, of different length or mixed; ``FitError`` where nothing tells them apart.
    """
    chats = _checked(positives, negatives, paired)
    ESTIMATORS[estimator]  # an unknown name is an error before the model runs
    rows = [Row(_tokens(model, text)) for text in (*positives, *negatives)]
    read, cut = "last" if chats else "mean", len(positives)
    got = capture(model, rows, _points(model, layers), read=read)
    made = replace(
        model.provenance("caa" if estimator == "mean_difference" else f"caa+{estimator}", name=name, site="resid_post"),
        template="chat" if chats else "none",
        data_digest=_digest(positives, negatives),
        split={"train": cut if paired else len(rows)},
        read_positions=read,
    )
    sides = {point: h[:cut] for point, h in got.items()}, {point: h[cut:] for point, h in got.items()}
    norms = {point: float(h.norm(dim=-1).mean()) for point, h in got.items()}
    vector = fit(Activations(*sides, norms, paired), estimator, made)
    scope = after_instruction(model.tokenizer) if chats else Scope()
    return Artefact(vector, Cell.of(vector, scope=scope).at_dose(dose / len(vector.points), vector))


def _checked(positives: Sequence[str | Chat], negatives: Sequence[str | Chat], paired: bool) -> bool:
    """Whether these are lists of chats; ``DataError`` where they are not two lists of one kind."""
    kinds = set()
    for side, texts in (("positive", positives), ("negative", negatives)):
        if isinstance(texts, str):
            raise DataError(f"the {side} side is one text; give a list of texts")
        if not texts:
            raise DataError(f"the {side} side is empty; give at least one text")
        kinds |= {isinstance(text, str) for text in texts}
    if len(kinds) > 1:
        raise DataError("the two lists mix texts and chats; give only texts or only chats")
    if paired and len(positives) != len(negatives):
        raise DataError(
            f"{len(positives)} positives and {len(negatives)} negatives: text i of one list belongs to text i of the "
            "other; give equally many, or pass paired=False"
        )
    return kinds == {False}


def _points(model: OpenModel, layers: int | Sequence[int] | None) -> tuple[HookPoint, ...]:
    if layers is None:
        layers = (model.layers - 1) // 2
    points = tuple(HookPoint(layer) for layer in ((layers,) if isinstance(layers, int) else layers))
    if not points:
        raise UsageError("layers: give at least one, or leave it out for the block in the middle")
    for point in points:
        model.parts.check(point)
    return points


def _tokens(model: OpenModel, text: str | Chat) -> tuple[int, ...]:
    """Texts as labelled texts are written: the tokenizer's first token, if it has one, and the text."""
    if not isinstance(text, str):
        return _chat_tokens(model, text)
    start = model.tokenizer.bos_token_id
    return (*(() if start is None else (int(start),)), *start_free(model.tokenizer, text))


def _chat_tokens(model: OpenModel, chat: Chat) -> tuple[int, ...]:
    if not model.tokenizer.chat_template:
        raise DataError(f"{model.id} has no chat template; give texts instead of chats")
    messages = [dict(message) for message in chat]
    if not messages or any(set(message) != {"role", "content"} for message in messages):
        raise DataError('a chat is a list of messages such as {"role": "user", "content": "Hello"}')
    opens = messages[-1]["role"] != "assistant"
    text = model.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opens)
    # What a template writes after the token that closes an answer is no part of the answer.
    return start_free(model.tokenizer, str(text) if opens else str(text).rstrip())


def _digest(positives: Sequence[str | Chat], negatives: Sequence[str | Chat]) -> str:
    plain = [text if isinstance(text, str) else [dict(turn) for turn in text] for text in (*positives, *negatives)]
    return hashlib.blake2b(json.dumps([len(positives), plain]).encode(), digest_size=16).hexdigest()
