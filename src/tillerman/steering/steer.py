"""Plans on a live model, as a ``with`` block: one plan for all rows, or one for each."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from tillerman.core.artefact import ABSTAINS, Artefact
from tillerman.core.choices import ChoiceGate
from tillerman.core.errors import MismatchError, NotAppliedError, UsageError
from tillerman.core.gates import PromptGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.operators import RELATIVE
from tillerman.core.plan import Intervention, Plan
from tillerman.models.belonging import foreign_weights
from tillerman.models.edit import Edit, edit_forward, renew_graphs, stop_passes
from tillerman.models.families import Anatomy, anatomy, causal_model
from tillerman.models.forward import DecoderInputs
from tillerman.models.generating import heard
from tillerman.models.opened import OpenModel
from tillerman.models.passes import Passes
from tillerman.models.recomputation import ensure_seen_again
from tillerman.steering.following import Following
from tillerman.steering.lookahead import Ahead, looks_ahead
from tillerman.steering.overflow import ensure_finite
from tillerman.steering.receipt import Applied, Receipt
from tillerman.steering.rows import Known, Pass, rounds
from tillerman.steering.streams import Streams

_TEXT_SCOPES = ("thinking", "not_in_code")
_TRAINING = "the model was in training mode (dropout and the like are on): model.eval() turns it off"
_OUTLIVED = (
    "the steering block ended while a generate that began in it was still running in another thread; the rest of its "
    "text would be unsteered, so it was stopped: join the thread, or read its streamer to the end, inside the block"
)


class Steered:
    """The handle of a running block; ``receipt`` may be read inside and after it.

    ``plans`` has one plan, or one per row; ``receipt.applied`` holds their interventions one after another.
    ``watching`` are monitors that only look; ``followed`` gives what each monitor, those that switch a plan on too, has
    read of each row of the latest text.
    """

    def __init__(
        self,
        plans: tuple[Plan, ...],
        warnings: tuple[str, ...],
        *,
        per_row: bool,
        watching: tuple[Monitor, ...] = (),
    ) -> None:
        self.plans, self.watching = plans, watching
        self.followed: dict[Monitor, list[Following]] = {}
        self._warnings = warnings
        self._per_row = per_row
        self._forwards = 0
        self._trained = False
        self._lock = threading.Lock()  # threads count together
        # Per hook point and round: the tokens of each plan. Left on the device until the receipt is read.
        self._tokens: dict[HookPoint, list[tuple[list[int | None], Int[Tensor, " p"]]]] = {}

    @property
    def plan(self) -> Plan:
        """All interventions, in the order of the receipt."""
        return tuple(item for plan in self.plans for item in plan)

    @property
    def monitors(self) -> tuple[Monitor, ...]:
        gates = (gate for item in self.plan for gate in item.gates)
        return tuple(dict.fromkeys([*self.watching, *(one for one in gates if isinstance(one, Monitor))]))

    @property
    def receipt(self) -> Receipt:
        counts: dict[tuple[int, int, HookPoint], int] = {}
        for point, records in self._tokens.items():
            for places, tokens in records:
                for row, (place, count) in enumerate(zip(places, tokens.tolist(), strict=True)):
                    if place is not None:
                        counts[row, place, point] = count
        applied = []
        for row, plan in enumerate(self.plans):
            for i, item in enumerate(plan):
                tokens_at = {str(p): counts.get((row, i, p), 0) for p in item.steering.points}
                applied.append(_record(item, tokens_at, row if self._per_row else None))
        warnings = (*self._warnings, *((_TRAINING,) if self._trained else ()))
        return Receipt(self._forwards, tuple(applied), warnings)

    def passed(self, *, training: bool) -> None:
        with self._lock:
            self._forwards += 1
            self._trained |= training

    def count(self, point: HookPoint, j: int, places: list[int | None], tokens: Int[Tensor, " p"]) -> None:
        """Round ``j`` of a hook point met so many tokens of each plan."""
        with self._lock:
            records = self._tokens.setdefault(point, [])
            if j == len(records):
                records.append((places, tokens))
            else:
                records[j] = (places, records[j][1] + tokens.to(records[j][1].device))

    def ensure_applied(self) -> None:
        for item, applied in zip(self.plan, self.receipt.applied, strict=True):
            if item.gate is not None and self._forwards > 0:
                continue  # a gate that stayed shut did its work
            if not item.missed({point: applied.tokens[str(point)] for point in item.steering.points}):
                continue
            idle = [point for point, count in applied.tokens.items() if count == 0]
            whose = "" if applied.row is None else f", the plan of row {applied.row}"
            raise NotAppliedError(
                f"nothing was steered at {', '.join(idle)} (scope {item.scope}, {self._forwards} forward passes "
                f"seen{whose}): run the model inside the block, and check that the scope meets a token of the input"
            )


def steer(
    model: OpenModel | nn.Module,
    plan: Plan | Intervention | Artefact,
    *,
    warnings: tuple[str, ...] = (),
    allow_mismatch: bool = False,
    must_apply: bool = True,
) -> AbstractContextManager[Steered]:
    """Steer every forward pass of ``model`` inside the block, the user's own ``generate`` included.

    ``model`` is what ``open_model`` gave, or any transformers model of a known family. It is asked whether the vectors
    were fitted on it: ``MismatchError`` where they were not, and with ``allow_mismatch`` a warning in the receipt. A
    transformers model tells its weights, an opened one tokenizer and chat template too; of vectors made by hand
    without a fingerprint only the shape is asked. An artefact stands for its own plan.

    ``h' = h + strength * v`` (operator ``add``; the others: ``core.operators``) at each intervention's hook
    points, on the tokens of its scope (PAS section 3.3). Interventions on one hook point apply in the order
    of the plan. Strength 0 is bit-equal to no steering. At the end all is as it was; ``NotAppliedError`` if
    an intervention touched nothing. ``warnings`` (allowed mismatches) go into the receipt; ``must_apply``
    False leaves the check out, for passes whose inputs may not meet the scope.
    """
    if isinstance(plan, Artefact):
        warnings = (*warnings, ABSTAINS) if plan.abstains else warnings
        plan = plan.plan()
    interventions = (plan,) if isinstance(plan, Intervention) else tuple(plan)
    causal, found = _belonging(model, interventions, allow_mismatch)
    return _block(causal, Steered((interventions,), (*warnings, *found), per_row=False), must_apply)


def steer_rows(
    model: OpenModel | nn.Module,
    plans: Sequence[Plan],
    *,
    warnings: tuple[str, ...] = (),
    allow_mismatch: bool = False,
    must_apply: bool = True,
    watching: Sequence[Monitor] = (),
) -> AbstractContextManager[Steered]:
    """Steer each row of a batch by a plan of its own; an empty plan leaves its row bit-equal.

    As ``steer`` otherwise. A pass may have k rows for each of the n plans, as beams and
    ``num_return_sequences`` make them: row i then belongs to plan ``i // k``. ``watching``: monitors that follow every
    row and change nothing; ``followed`` of the handle says what they read.
    """
    of_rows = tuple(tuple(plan) for plan in plans)
    causal, found = _belonging(model, tuple(item for plan in of_rows for item in plan), allow_mismatch)
    steered = Steered(of_rows, (*warnings, *found), per_row=True, watching=tuple(watching))
    return _block(causal, steered, must_apply)


def _belonging(
    model: OpenModel | nn.Module, items: tuple[Intervention, ...], allow_mismatch: bool
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model to steer, and what of the vectors' provenance does not fit it but is allowed."""
    made = {id(item.steering): item.steering.provenance for item in items}.values()
    if not isinstance(model, OpenModel):
        return model, foreign_weights(causal_model(model), made, allow_mismatch=allow_mismatch)
    found = [model.check_provenance(one, allow_mismatch=allow_mismatch) for one in made]
    return model.model, tuple(dict.fromkeys(line for lines in found for line in lines))


@contextmanager
def _block(model: nn.Module, steered: Steered, must_apply: bool) -> Iterator[Steered]:
    parts = anatomy(model)
    if steered.plan or not steered.watching:
        ensure_fits(parts, steered.plan)
    for monitor in steered.watching:
        _ensure_reads(parts, monitor, "monitor")
    renew_graphs(model)
    keep_text = any(item.scope.name in _TEXT_SCOPES for item in steered.plan) or looks_ahead(steered.plan)
    streams, ahead = Streams(keep_text=keep_text), Ahead(parts, steered.plans)
    passes: Passes[Pass] = Passes(everywhere=True)

    def on_forward(inputs: DecoderInputs) -> Pass:
        stream = streams.of(inputs)
        now = Pass(stream.observe(inputs), len(steered.plans), stream, ahead)
        if not inputs.again:
            steered.passed(training=inputs.training)
        return now

    def on_end(now: Pass, output: Any) -> None:
        streams.learn(now.stream, output)

    points = {p for item in steered.plan for p in item.steering.points}
    read = {gate.point for item in steered.plan for gate in item.gates} | {m.point for m in steered.watching}
    known: Known = {}
    edits = {point: _edit(point, steered, passes, known) for point in sorted(points | read)}
    try:
        with edit_forward(parts, edits, on_forward, on_end, passes), heard(model, streams):
            yield steered
    finally:
        outlived = streams.running > 0
        if outlived:
            streams.when_idle(stop_passes(parts.decoder, lambda: streams.in_call, _OUTLIVED))
    if outlived:
        raise UsageError(_OUTLIVED)
    if must_apply:
        steered.ensure_applied()


def ensure_fits(parts: Anatomy, plan: Plan) -> None:
    """The model has the plan's hook points, in the vectors' width, and can compute with what they make of it."""
    if not plan:
        raise UsageError("the plan is empty; give at least one intervention")
    for item in plan:
        for point in item.steering.points:
            parts.check(point)
            width = parts.width_at(point)
            if item.steering.width(point) != width:
                raise MismatchError(
                    f"{point}: the vector of {item.steering.provenance.model_id} has width "
                    f"{item.steering.width(point)}, the model {width}"
                )
        for gate in item.gates:
            _ensure_reads(parts, gate, "monitor" if isinstance(gate, Monitor) else "gate")
    ensure_finite(plan, parts.causal.dtype)


def _ensure_reads(parts: Anatomy, reader: PromptGate | Monitor, what: str) -> None:
    parts.check(reader.point)
    width = parts.width_at(reader.point)
    if reader.width != width:
        raise MismatchError(f"the {what} ({reader}) has width {reader.width}, the model {width}")


def _edit(point: HookPoint, steered: Steered, passes: Passes[Pass], known: Known) -> Edit:
    here = dict.fromkeys(gate for item in steered.plan for gate in item.gates if gate.point == point)
    mine: list[PromptGate] = [one for one in here if not isinstance(one, Monitor)]
    monitors = [one for one in steered.monitors if one.point == point]
    worked = rounds(point, steered.plans, known)

    def edit(h: Tensor) -> Tensor:
        now = passes.now
        for gate in mine:  # before the edits of this point: a gate reads what arrives
            now.stream.gates.read(gate, h, now.stream.sequences, now.info)
        if not passes.recomputing:
            for monitor in monitors:
                steered.followed[monitor] = now.stream.gates.follow(monitor, h, now.stream.sequences, now.info)
        for j, (round_, places) in enumerate(worked):
            if not passes.recomputing:
                steered.count(point, j, places, now.tokens(round_.conditions))
            h = round_.apply(h, now)
        ensure_seen_again(h, passes)
        return h

    return edit


def _record(item: Intervention, tokens: dict[str, int], row: int | None) -> Applied:
    doses = {str(p): item.steering.dose(p, item.strength) for p in item.steering.points}
    opens = next((gate.choice for gate in item.gates if isinstance(gate, ChoiceGate)), item.gate)
    return Applied(
        item.strength,
        item.operator,
        str(item.scope),
        tokens,
        {} if item.operator in RELATIVE else doses,
        row,
        "" if opens is None else str(opens),
    )
