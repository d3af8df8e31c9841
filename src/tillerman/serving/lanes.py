"""Plans as lanes: what is done to each position of one text, known before the text is.

For constant vectors and the operators of ``serving.pulls``, which interventions act on a token depends on the token's
position alone. So a plan and the prompt's token ids give a piecewise constant function from positions to pulls
(``lanes``). It holds under chunked prompts, preemption, cached prefixes and speculative drafts, and it says which
cached tokens of two requests were treated alike (``treatment``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tillerman.core.decoding import take
from tillerman.core.errors import UsageError
from tillerman.core.plan import Intervention, Plan, Scope
from tillerman.core.turns import turn_spans
from tillerman.serving.pulls import OPERATORS, Pull, Pulls, block_after, in_order

_MARKED = ("after_instruction", "assistant_turns")
SCOPES = ("all", "prompt", "last", "generated", *_MARKED, "positions")  # those that ask for no later text


@dataclass(frozen=True)
class LaneStep:
    """One intervention: what it pulls at its hook points, on the tokens of its scope."""

    pulls: tuple[Pull, ...]
    scope: Scope

    def spans(self, prompt: Sequence[int]) -> tuple[tuple[int, int | None], ...]:
        """The positions that the scope means, as half-open ranges; None: without end. As ``steering.scopes``."""
        size, name = len(prompt), self.scope.name
        if name == "after_instruction":
            return ((_last_of(self.scope.marker, prompt), None),)
        if name == "assistant_turns":
            turns = turn_spans(self.scope.marker, self.scope.closing, prompt)
            return (*(turn for turn in turns if turn[1] is not None), (_open_from(turns, size), None))
        if name == "positions":
            at = sorted({p if p >= 0 else size + p for p in self.scope.positions})
            return tuple((p, p + 1) for p in at if p >= 0)
        return ({"all": (0, None), "prompt": (0, size), "last": (size - 1, size), "generated": (size - 1, None)}[name],)


@dataclass(frozen=True)
class LanePlan:
    """A plan's interventions in its order."""

    steps: tuple[LaneStep, ...]

    def lanes(self, prompt: Sequence[int]) -> tuple[Lane, ...]:
        """What is done from position 0 on: lanes that touch, neighbours differ, the last one without end."""
        spans = [(span, step) for step in self.steps for span in step.spans(prompt)]
        cuts = sorted({0, *(edge for (start, end), _ in spans for edge in (start, end) if edge is not None)})
        found: list[Lane] = []
        for cut in cuts:
            active = [step for (a, b), step in spans if a <= cut and (b is None or cut < b)]  # in the plan's order
            pulls = in_order(pull for step in active for pull in step.pulls)
            if not found or found[-1].pulls != pulls:
                found.append(Lane(cut, pulls))
        return tuple(found)

    def touched(self, prompt: Sequence[int], tokens: int) -> tuple[int, ...]:
        """How many of a text's first ``tokens`` positions each intervention steers."""
        return tuple(
            sum(max(0, min(tokens, tokens if b is None else b) - a) for a, b in step.spans(prompt) if a < tokens)
            for step in self.steps
        )

    @property
    def reads(self) -> Mapping[int, int]:
        """How many of its interventions read the stream at each block, on whatever tokens."""
        return Counter(pull.layer for step in self.steps for pull in step.pulls if pull.operator != "add")

    def to_json(self) -> list[dict[str, Any]]:
        """Canonical: equal plans give equal values."""
        return [
            {"scope": step.scope.to_json(), "pulls": [pull.to_json() for pull in step.pulls]} for step in self.steps
        ]

    @classmethod
    def from_json(cls, values: Any) -> LanePlan:
        """``UsageError`` or ``ValueError`` for anything that ``to_json`` does not write."""
        if not isinstance(values, list):
            raise UsageError("a plan is a list of interventions")
        return cls(tuple(_step(value) for value in values))

    def text(self) -> str:
        """As JSON in one line."""
        return json.dumps(self.to_json(), separators=(",", ":"))


@dataclass(frozen=True)
class Lane:
    """From position ``start`` on, this is done."""

    start: int
    pulls: Pulls


def problem(plan: Plan) -> str | None:
    """Why a plan cannot be written as lanes, in one sentence; None where it can."""
    for item in plan:
        if item.operator not in OPERATORS:
            return f"operator {item.operator!r} is not served by this engine; it has {', '.join(OPERATORS)}"
        if not item.steering.is_constant:
            return "a steering whose change depends on what the model reads is not served by this engine"
        if item.gate is not None:
            return "a gate is not served by this engine, which steers before the whole prompt is known"
        if item.scope.name not in SCOPES:
            return f"scope {item.scope.name!r} is not served by this engine; choose one of {', '.join(SCOPES)}"
        if item.scope.name in _MARKED and not item.scope.marker:
            return f"scope '{item.scope.name}' has no marker: the artefact was made without a chat template"
        for point in item.steering.points:
            if block_after(point) is None:
                return f"{point} is not served by this engine, which steers at the outputs of decoder blocks"
    return None


def lane_plan(plan: Plan, digests: Sequence[str]) -> LanePlan:
    """A plan as lanes; ``digests`` has for each intervention that of its artefact. ``UsageError``: see ``problem``.
    What has strength 0 pulls nothing and stays a step, so that steps are the plan's interventions."""
    why = problem(plan)
    if why is not None:
        raise UsageError(why)
    if len(digests) != len(plan):
        raise UsageError(f"{len(plan)} interventions and {len(digests)} digests: expected one for each")
    return LanePlan(tuple(_of(item, digest) for item, digest in zip(plan, digests, strict=True)))


def treatment(lanes: Sequence[Lane], start: int, end: int) -> str:
    """What is done to the positions ``start`` to ``end``, in a text that two requests share only if it is the same;
    empty where nothing is. Where in the range something begins counts, where the plan began to differ outside not."""
    told = []
    for lane, until in zip(lanes, ends(lanes), strict=True):
        first, last = max(lane.start, start), end if until is None else min(until, end)
        if lane.pulls and first < last:
            told.append([first, last, [pull.to_json() for pull in lane.pulls]])
    return json.dumps(told, separators=(",", ":")) if told else ""


def parse_lanes(text: str) -> LanePlan:
    """Inverse of ``LanePlan.text``."""
    try:
        return LanePlan.from_json(json.loads(text))
    except json.JSONDecodeError as error:
        raise UsageError(f"the plan is no JSON: {error}") from None


def _of(item: Intervention, digest: str) -> LaneStep:
    pulls = []
    for point in item.steering.points:
        layer = block_after(point)
        if layer is not None and item.strength:
            pulls.append(Pull(layer, digest, str(point), float(item.strength), item.operator))
    return LaneStep(tuple(pulls), item.scope)


def _open_from(turns: Sequence[tuple[int, int | None]], size: int) -> int:
    """Where the turn begins that the prompt leaves open; the end of the prompt where there is none."""
    return turns[-1][0] if turns and turns[-1][1] is None else size


def _last_of(marker: Sequence[int], prompt: Sequence[int]) -> int:
    """Where the marker's last occurrence begins; the end of the prompt where there is none."""
    wanted, size = list(marker), len(marker)
    given = list(prompt)
    return next((at for at in range(len(given) - size, -1, -1) if given[at : at + size] == wanted), len(given))


def _step(value: Any) -> LaneStep:
    if not isinstance(value, Mapping) or set(value) != {"scope", "pulls"} or not isinstance(value["pulls"], list):
        raise UsageError("an intervention of a plan has a scope and pulls, and nothing else")
    scope = Scope.from_json(take(value, "scope", Mapping[str, Any]))
    if scope.name not in SCOPES:
        raise UsageError(f"scope {scope.name!r} is not served by this engine; choose one of {', '.join(SCOPES)}")
    return LaneStep(tuple(Pull.from_json(one) for one in value["pulls"]), scope)


def ends(lanes: Sequence[Lane]) -> tuple[int | None, ...]:
    """Where each lane ends, the last one never."""
    return (*(after.start for _, after in pairwise(lanes)), None)
