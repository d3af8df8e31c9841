"""Proof on this machine that steering fires: each artefact asked through the engine, beside an unsteered neighbour and
against ``tillerman.steer``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from tillerman.core.errors import TillermanError, UsageError
from tillerman.core.named_plan import NamedPart
from tillerman.core.plan import Plan
from tillerman.serving.artefacts import Served
from tillerman.serving.asked import Wanted
from tillerman.serving.door import Door
from tillerman.serving.engine import Chunk, Drawing, Ended, Job, Taken
from tillerman.serving.plans import ServedPlan, make_plan
from tillerman.serving.policy import ANONYMOUS, cap_of
from tillerman.serving.prompts import TokenPrompt
from tillerman.serving.receipts import difference

_SAID = "Tell me about yourself."
_TOKENS = 8
_PATIENCE = 100  # times a twentieth of a second
_NEAR = {"float32": 1e-4}  # of log-probabilities in a batch of another shape
_HALF = 0.25  # the same in half precision, where the shape changes the rounding

# Prompt, plan, tokens made: per intervention the tokens that ``tillerman.steer`` changes at each hook point.
Reference = Callable[[tuple[int, ...], Plan, int], list[Mapping[str, int]]]


@dataclass(frozen=True)
class Check:
    """One thing that was to be shown of an artefact; ``found`` says what was.

    ``dose 0 unsteered``, bit for bit; ``receipt``: it is the plan; ``changes``: the highest dose changes the answer;
    ``neighbour``: an answer beside it is unsteered; ``as steer``: it touches the tokens that ``tillerman.steer`` does.
    """

    what: str
    passed: bool
    found: str


@dataclass(frozen=True)
class ArtefactProof:
    """All checks of one artefact, at the highest dose that it may be used at."""

    name: str
    sha256: str
    dose: float
    checks: tuple[Check, ...]
    cost: float | None  # wall time of steered answers as a ratio to unsteered ones; None: not measured

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class _Made:
    tokens: tuple[Taken, ...]
    ended: Ended

    @property
    def broken(self) -> str | None:
        """Why there is no whole answer; None where there is one."""
        return None if self.ended.ending in ("stop", "length") else self.ended.why or self.ended.ending

    def same(self, other: _Made) -> bool:
        """To the last bit."""
        return self.tokens == other.tokens and self.broken is None

    def apart(self, other: _Made) -> float:
        """The largest difference of log-probabilities; infinite where a token differs."""
        mine, theirs = self.tokens, other.tokens
        if [one.token for one in mine] != [one.token for one in theirs]:
            return float("inf")
        pairs = zip(mine, theirs, strict=True)
        return max((abs((a.logprob or 0) - (b.logprob or 0)) for a, b in pairs), default=0.0)


async def prove(
    door: Door, names: Sequence[str], reference: Reference | None, *, dtype: str, measure: bool = False
) -> tuple[ArtefactProof, ...]:
    """Every artefact in turn; the engine has nothing else to do meanwhile."""
    prompt = _prompt(door)
    plain = await _made(door, prompt, ServedPlan((), "unsteered"))
    proofs = []
    for name in names:
        proofs.append(await _proof(door, door.rules.library[name], prompt, plain, reference, dtype, measure))
    if all(one.passed for one in proofs):
        door.checked = time.time()
        door.metrics.checked.set(door.checked)
    return tuple(proofs)


async def _proof(
    door: Door,
    served: Served,
    prompt: TokenPrompt,
    plain: _Made,
    reference: Reference | None,
    dtype: str,
    measure: bool,
) -> ArtefactProof:
    cap = cap_of(served.name, ANONYMOUS, door.rules.settings.policy)
    none, full = _plan(door, served, 0.0), _plan(door, served, cap)
    checks = []
    still = await _made(door, prompt, none)
    checks.append(Check("dose 0 unsteered", plain.same(still), _apart(plain, still)))
    # Alone, as the unsteered answer was made: beside another one rounding alone would be a change.
    steered = await _made(door, prompt, full)
    _, beside = await asyncio.gather(_made(door, prompt, full), _made(door, prompt, ServedPlan((), "unsteered")))
    wrong = steered.broken or difference(full, steered.ended)
    checks.append(Check("receipt", wrong is None, wrong or "as asked"))
    checks.append(_changes(plain, steered))
    near = _NEAR.get(dtype, _HALF)
    checks.append(Check("neighbour", plain.apart(beside) <= near, _apart(plain, beside)))
    if reference is not None:
        checks.append(await _as_reference(reference, prompt, full, steered))
    cost = await _cost(door, prompt, full) if measure else None
    return ArtefactProof(served.name, served.sha256, cap, tuple(checks), cost)


def _changes(plain: _Made, steered: _Made) -> Check:
    """A gate that stays shut on the probe's prompt leaves it as it was."""
    shut = any(touched.gate_open is False for touched in steered.ended.touched)
    words = f"{'its gate is shut: ' if shut else ''}{_apart(plain, steered)}"
    return Check("changes", steered.broken is None and plain.same(steered) == shut, words)


async def _as_reference(reference: Reference, prompt: TokenPrompt, plan: ServedPlan, steered: _Made) -> Check:
    what, left = "as steer", _PATIENCE
    while True:
        try:
            meant = await asyncio.to_thread(reference, prompt.tokens, plan.plan, steered.ended.answer_tokens)
            break
        except TillermanError as error:
            left -= 1
            if not left or not isinstance(error, UsageError):
                return Check(what, False, str(error))
            await asyncio.sleep(0.05)  # the engine lets go of the model a moment after its last word
    done = [dict(one.tokens) for one in steered.ended.touched]
    words = ", ".join(f"{count} at {point}" for one in done for point, count in one.items())
    return Check(what, done == [dict(one) for one in meant], words or "nothing")


async def _cost(door: Door, prompt: TokenPrompt, plan: ServedPlan) -> float:
    """Best of three, in turn."""
    seconds: dict[str, list[float]] = {}
    for _ in range(3):
        for one in (ServedPlan((), "unsteered"), plan):
            began = time.perf_counter()
            await _made(door, prompt, one)
            seconds.setdefault(one.fingerprint, []).append(time.perf_counter() - began)
    return min(seconds[plan.fingerprint]) / min(seconds["unsteered"])


def _prompt(door: Door) -> TokenPrompt:
    if door.prompts.has_template:
        return door.prompts.chat([{"role": "user", "content": _SAID}], {})
    return door.prompts.plain(_SAID)


def _plan(door: Door, served: Served, dose: float) -> ServedPlan:
    return make_plan((Wanted(NamedPart(served.name, dose)),), {served.name: served}, door.prompts.make_scope)


async def _made(door: Door, prompt: TokenPrompt, plan: ServedPlan) -> _Made:
    drawing = Drawing(_TOKENS, temperature=0, logprobs=0)
    job = Job("proof", prompt.tokens, plan.plan, plan.names, plan.fingerprint, drawing, plan.digests)
    tokens: list[Taken] = []
    ended = Ended("error", 0, 0, ())
    async with aclosing(door.engine.answer(job)) as found:
        async for event in found:
            if isinstance(event, Chunk):
                tokens.extend(event.tokens)
            else:
                ended = event
    return _Made(tuple(tokens), ended)


def _apart(a: _Made, b: _Made) -> str:
    apart = a.apart(b)
    return "other tokens" if apart == float("inf") else f"log-probabilities {apart:.2g} apart"
