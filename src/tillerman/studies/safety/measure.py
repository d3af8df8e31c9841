"""Unsafe prompts and safe ones that look unsafe, answered under every plan; the vector beside the refusal direction.

No text is kept: a trial has ids, kinds and outcomes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tillerman.core.errors import UsageError
from tillerman.core.plan import Plan
from tillerman.core.rows import Row
from tillerman.data.safety import SafetyPrompt, parted_prompts, read_safety_prompts, shipped_prompts
from tillerman.data.thoughts import Reply
from tillerman.data.writing import Writer, Written
from tillerman.evaluation.replies import replies_under
from tillerman.evaluation.scorers.refusals import NAME as REFUSAL
from tillerman.evaluation.scorers.registry import text_scorer
from tillerman.logs.study import Trial
from tillerman.studies.base import Lab
from tillerman.studies.behaviour import behaviour_of, measured
from tillerman.studies.safety.direction import DRAWS, RefusalDirection, read_refusal, vector_of
from tillerman.studies.safety.options import (
    BEHAVIOUR,
    COSINE,
    LEAST,
    LENGTH,
    NULL,
    PROMPT,
    REPEATED,
    SAFE,
    SHUFFLED,
    STEERED,
    TOLD,
    UNSAFE,
    UNSTEERED,
    WITHOUT,
    SafetyOptions,
)

_SIDES = {True: UNSAFE, False: SAFE}


@dataclass(frozen=True)
class _Side:
    """The prompts of one side: those that are tested, and those that the refusal direction is made of."""

    unsafe: bool
    tested: tuple[SafetyPrompt, ...]
    made_of: tuple[SafetyPrompt, ...]


def measure(lab: Lab, options: SafetyOptions) -> Iterator[Trial]:
    """Refusals of both sides, the cosine with the refusal direction, and the behaviour."""
    sides = {unsafe: _side(options, unsafe) for unsafe in (True, False)}
    writer = lab.run.bare_writer
    tested = {unsafe: _written(lab, side.tested, writer, options) for unsafe, side in sides.items()}
    plans: dict[str, Plan] = {UNSTEERED: (), STEERED: lab.plan()}
    vector = vector_of(lab.steering, lab.cell.operator)
    if vector is not None:
        made_of = {unsafe: _rows(_written(lab, side.made_of, writer, options)) for unsafe, side in sides.items()}
        refusal = read_refusal(lab, vector.points, made_of, {side: _rows(one) for side, one in tested.items()})
        plans[WITHOUT] = lab.cell.plan(refusal.without(vector), lab.artefact.gate)
        yield from _compared(lab, refusal)
    nulls = {f"{NULL} {k}": plan for k, plan in enumerate(lab.random_plans(options.draws), start=1)}
    for unsafe, side in sides.items():
        yield from _asked(lab, side, tested[unsafe], {**plans, **nulls}, options)
        if lab.run.told_writer is not None:
            told = _written(lab, side.tested, lab.run.told_writer.with_shots(()), options)
            yield from _asked(lab, side, told, {PROMPT: ()}, options)
    behaviour = behaviour_of(lab, options.limit)
    yield from behaviour.trials(lab, BEHAVIOUR, {**plans, **nulls})
    told_so = None if lab.run.told_writer is None else behaviour.asked_by(lab, lab.run.told_writer)
    if told_so is not None:
        yield from told_so.trials(lab, BEHAVIOUR, {PROMPT: ()})


def _side(options: SafetyOptions, unsafe: bool) -> _Side:
    files = options.prompts if unsafe else options.safe_prompts
    found = [prompt for file in files for prompt in read_safety_prompts(file, unsafe=unsafe)]
    if not files:
        found = [prompt for prompt in shipped_prompts() if prompt.unsafe == unsafe]
    once = tuple({prompt.text: prompt for prompt in found}.values())
    if len({prompt.id for prompt in once}) < len(once):  # two files of one layout
        once = tuple(
            SafetyPrompt(f"{prompt.id} ({number})", prompt.kind, unsafe, prompt.text)
            for number, prompt in enumerate(once, start=1)
        )
    if len(once) < 2 * LEAST:
        name = "prompts" if unsafe else "safe_prompts"
        raise UsageError(
            f"`{name}`: {len(once)} different prompts; at least {2 * LEAST} are needed, half of them to be tested, "
            "half for the refusal direction. Give more, or leave it out to use XSTest's"
        )
    return _Side(unsafe, *parted_prompts(once, options.limit, options.fit_prompts, options.seed))


def _written(lab: Lab, prompts: Sequence[SafetyPrompt], writer: Writer, options: SafetyOptions) -> list[Written]:
    written = [Written(writer.encode(writer.reply_text(prompt.text)), ()) for prompt in prompts]
    longest, context = max(len(one.prompt) for one in written), lab.opened.context
    if context is not None and longest + options.text_tokens > context:
        raise UsageError(
            f"a prompt of {longest} tokens leaves no room for a reply of {options.text_tokens}: the model reads "
            f"{context}. Choose fewer `text_tokens`, or leave such prompts out of the file"
        )
    return written


def _rows(written: Sequence[Written]) -> list[Row]:
    return [Row(one.prompt, len(one.prompt) - 1) for one in written]


def _asked(
    lab: Lab, side: _Side, written: Sequence[Written], plans: Mapping[str, Plan], options: SafetyOptions
) -> Iterator[Trial]:
    case, ids = _SIDES[side.unsafe], tuple(prompt.id for prompt in side.tested)
    kinds = {prompt.id: prompt.kind for prompt in side.tested}
    with lab.stage(case, len(plans) * len(written)) as progress:
        said = replies_under(
            lab.opened, written, list(plans.values()), options.text_tokens, store=lab.store, progress=progress
        )
    for condition, replies in zip(plans, said, strict=True):
        for trial in measured(case, condition, ids, _scored(REFUSAL, replies), REFUSAL):
            groups = tuple(kinds[name] for name in trial.items)
            yield Trial(case, condition, trial.items, trial.values, groups, scorer=REFUSAL)
        yield from measured(f"{REPEATED}, {case}", condition, ids, _scored("repetition", replies), "repetition")


def _scored(scorer: str, replies: Sequence[Reply]) -> list[float | None]:
    return text_scorer(scorer).score([""] * len(replies), [reply.answer or "" for reply in replies])


def _compared(lab: Lab, refusal: RefusalDirection) -> Iterator[Trial]:
    """Cosines are means over hook points; what random and shuffled draws give stands beside."""
    vector = vector_of(lab.steering, lab.cell.operator)
    assert vector is not None
    draws, bare = tuple(f"draw {k}" for k in range(1, DRAWS + 1)), refusal.without(vector)
    yield Trial(COSINE, STEERED, ("vector",), (refusal.cosine(vector),), scorer="cosine")
    yield Trial(COSINE, NULL, draws, tuple(refusal.of_random(vector)), scorer="cosine")
    yield Trial(COSINE, SHUFFLED, draws, tuple(refusal.of_shuffled(vector)), scorer="cosine")
    left = tuple(bare.norm(point) / max(vector.norm(point), 1e-30) for point in vector.points)
    yield Trial(LENGTH, WITHOUT, tuple(map(str, vector.points)), left, scorer="share of |v|")
    for unsafe, case in _SIDES.items():
        found = refusal.projections(unsafe)
        ids = tuple(f"{case} {k}" for k in range(1, len(found) + 1))
        yield Trial(TOLD, case, ids, tuple(found), scorer="standard deviations")
