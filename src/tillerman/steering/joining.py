"""Plans of rows that come and go: which plan a row follows may change between two passes, as ``steer_rows``, whose
rows stay, cannot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tillerman.core.gates import PromptGate
from tillerman.core.hookpoint import HookPoint
from tillerman.core.monitors import Monitor
from tillerman.core.steerings.base import Steering
from tillerman.models.edit import Edit, edit_forward
from tillerman.models.families import Anatomy
from tillerman.models.forward import ForwardInfo
from tillerman.steering.lone import LoneText
from tillerman.steering.lookahead import Ahead
from tillerman.steering.rows import Conditions, Known, Round, rounds

Reach = tuple[int, int]  # of a row's own tokens, which ones a pass holds: from, to


class PlannedRows:
    """Texts that run as the rows of a batch, made ready: their rounds at every hook point."""

    def __init__(self, parts: Anatomy, texts: Sequence[LoneText]) -> None:
        self.texts = tuple(texts)
        self._parts = parts
        plans = [text.plan for text in texts]
        items = [item for plan in plans for item in plan]
        known: Known = {}
        steered = {point for item in items for point in item.steering.points}
        self.rounds: dict[HookPoint, list[tuple[Round, list[int | None]]]] = {
            point: rounds(point, plans, known) for point in sorted(steered)
        }
        self.gates: list[PromptGate] = list(dict.fromkeys(gate for text in texts for gate in text.gates))
        self.monitors: list[Monitor] = list(dict.fromkeys(monitor for text in texts for monitor in text.followed))
        self.points = steered | {one.point for one in (*self.gates, *self.monitors)}
        self.ahead = Ahead(parts, plans)
        self.columns: dict[tuple[tuple[bool, ...], torch.device], Bool[Tensor, "b 1"]] = {}  # masks of one-token passes

    def apply(self, point: HookPoint, h: Float[Tensor, "b s d"], now: PlannedPass) -> Float[Tensor, "b s d"]:
        for gate in self.gates:  # before the edits of this point: a gate reads what arrives
            if gate.point == point:
                now.decide(gate, h)
        for monitor in self.monitors:
            if monitor.point == point:
                now.follow(monitor, h)
        for round_, places in self.rounds.get(point, ()):
            now.met(point, places, round_.conditions)
            h = round_.apply(h, now)
        return h


class PlannedPass:
    """One pass of planned rows, right-aligned: ``reach`` says which tokens of each it holds."""

    def __init__(
        self, planned: PlannedRows, reach: Sequence[Reach], tokens: Int[Tensor, "b k"], info: ForwardInfo
    ) -> None:
        self._planned, self._reach = planned, reach
        self._tokens, self._info = tokens, info
        self._flags: dict[Conditions, list[Sequence[bool]]] = {}
        self._masks: dict[tuple[Conditions, torch.device], Bool[Tensor, "b s"]] = {}
        self._met: list[tuple[HookPoint, list[int | None], Conditions]] = []
        self._seen: list[tuple[Monitor, list[list[float]]]] = []  # projections of each row's new tokens

    @property
    def positions(self) -> Int[Tensor, "b s"]:
        return self._info.positions

    def ahead(self, steering: Steering, point: HookPoint, h: Float[Tensor, "b s d"]) -> Float[Tensor, "b s d"]:
        return self._planned.ahead.change(steering, point, h, self, self._info)

    def text(self) -> tuple[Int[Tensor, "b k"], Bool[Tensor, "b k"]]:
        return self._tokens, self._info.seen

    def meets_none(self, conditions: Conditions) -> bool:
        return not any(any(flags) for flags in self._of_rows(conditions))

    def mask(self, conditions: Conditions, device: torch.device) -> Bool[Tensor, "b s"]:
        key = (conditions, device)
        if key not in self._masks:
            self._masks[key] = self._made(self._of_rows(conditions), device)
        return self._masks[key]

    def _made(self, flags: list[Sequence[bool]], device: torch.device) -> Bool[Tensor, "b s"]:
        columns = len(self._info.columns)
        if columns > 1:
            return torch.tensor([[False] * (columns - len(one)) + list(one) for one in flags], device=device)
        key = (tuple(any(one) for one in flags), device)
        if key not in self._planned.columns:
            self._planned.columns[key] = torch.tensor(key[0], device=device)[:, None]
        return self._planned.columns[key]

    def _of_rows(self, conditions: Conditions) -> list[Sequence[bool]]:
        if conditions not in self._flags:
            rows = zip(conditions.of_plans, self._planned.texts, self._reach, strict=True)
            self._flags[conditions] = [
                [False] * (stop - start) if one is None else text.meant(one, start, stop)
                for one, text, (start, stop) in rows
            ]
        return self._flags[conditions]

    def decide(self, gate: PromptGate, h: Float[Tensor, "b s d"]) -> None:
        """Where this pass is the first one over a prompt, open the gate or shut it."""
        texts = self._planned.texts
        new = [i for i, text in enumerate(texts) if gate in text.gates and gate not in text.open]
        if not new:
            return
        real = self._info.real.to(h.device)
        if gate.read == "last":
            real = real & (torch.arange(real.shape[1], device=h.device) == real.shape[1] - 1)
        chosen = real[..., None]
        # where, not multiply: what stands in padding may be NaN
        opens = gate.opens(torch.where(chosen, h.float(), 0.0).sum(1) / chosen.sum(1).clamp(min=1)).tolist()
        for i in new:
            texts[i].open[gate] = bool(opens[i])

    def follow(self, monitor: Monitor, h: Float[Tensor, "b s d"]) -> None:
        """Read the tokens of this pass that a monitor has not read yet, of the rows that it follows. What was read
        counts once the pass has ended: one that fails is run anew."""
        rows = zip(self._planned.texts, self._reach, strict=True)
        counts = [
            stop - max(start, text.ran, text.prompt_tokens - 1) if monitor in text.followed else 0
            for text, (start, stop) in rows
        ]
        most = max(counts, default=0)
        if most > 0:
            seen = monitor.projections(h[:, -most:]).tolist()  # rows end together
            self._seen.append(
                (monitor, [values[most - n :] if n > 0 else [] for values, n in zip(seen, counts, strict=True)])
            )

    def met(self, point: HookPoint, places: list[int | None], conditions: Conditions) -> None:
        self._met.append((point, places, conditions))

    def ended(self) -> None:
        """Write down what was met and read, each token once, also where a pass repeats earlier ones."""
        for point, places, conditions in self._met:
            flags = self._of_rows(conditions)
            for text, place, mine, (start, _) in zip(self._planned.texts, places, flags, self._reach, strict=True):
                if place is not None:
                    new = sum(mine[max(0, text.ran - start) :])
                    text.touched[place, point] = text.touched.get((place, point), 0) + new
        for monitor, rows in self._seen:
            for text, values in zip(self._planned.texts, rows, strict=True):
                text.saw(monitor, values)
        for text, (_, stop) in zip(self._planned.texts, self._reach, strict=True):
            text.ran = max(text.ran, stop)


class JoiningPlans:
    """Hooks that follow the rows of the pass that runs. They hang from the first pass to ``release``, and meanwhile
    the model is this thread's: a pass of somebody else's plan would not be what its row asked for."""

    def __init__(self, parts: Anatomy) -> None:
        self._parts = parts
        self._hung: ExitStack | None = None
        self._points: set[HookPoint] = set()
        self._now: tuple[PlannedRows, PlannedPass] | None = None

    @contextmanager
    def over(
        self, planned: PlannedRows, reach: Sequence[Reach], tokens: Int[Tensor, "b k"], info: ForwardInfo
    ) -> Iterator[None]:
        """The pass inside the block is one of these rows'. ``tokens`` are of all columns up to its last."""
        self._hang(planned.points)
        now = PlannedPass(planned, reach, tokens, info)
        self._now = (planned, now)
        try:
            yield
        finally:
            self._now = None
        now.ended()

    def release(self) -> None:
        if self._hung is not None:
            self._hung.close()
        self._hung, self._points = None, set()

    def _hang(self, points: set[HookPoint]) -> None:
        if self._hung is not None and points <= self._points:
            return
        wanted = self._points | points
        self.release()
        with ExitStack() as stack:
            edits = {point: self._edit(point) for point in sorted(wanted)}
            stack.enter_context(edit_forward(self._parts, edits, lambda _: None))
            self._hung, self._points = stack.pop_all(), wanted

    def _edit(self, point: HookPoint) -> Edit:
        def edit(h: Tensor) -> Tensor:
            if self._now is None:
                return h
            planned, now = self._now
            return planned.apply(point, h, now)

        return edit
