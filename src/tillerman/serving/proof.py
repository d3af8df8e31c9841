"""Proof on this machine that steering fires: each artefact asked through the engine, beside an unsteered neighbour and
against ``tillerman.steer``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from tillerman.core.errors import TillermanError, UsageError
from tillerman.core.named_plan import NamedPart
from tillerman.core.plan import Plan
from tillerman.serving.artefacts import Served
from tillerman.serving.asked import Wanted
from tillerman.serving.engine import Chunk, Drawing, Ended, Engine, Job, Taken
from tillerman.serving.plans import ServedPlan, make_plan
from tillerman.serving.policy import ANONYMOUS, cap_of
from tillerman.serving.prompts import PromptReader, TokenPrompt
from tillerman.serving.receipts import difference
from tillerman.serving.settings import PolicySettings

_SAID = "Tell me about yourself."
_TOKENS = 8
_PATIENCE = 100  # times a twentieth of a second
_NEAR = {"float32": 1e-4}  # of log-probabilities in a batch of another shape
_HALF = 0.25  # the same in half precision, where the shape changes the rounding
_MOVED = {"float32": 1e-5}  # beyond this it is a change, and not the rounding of a batch of another shape

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
    broken: str | None = None  # why an answer that was needed did not come; then nothing is shown either way

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
        return self.drifted(other)

    def drifted(self, other: _Made) -> float:
        """The same up to the first token that differs: two that are as likely change places by rounding alone."""
        largest = 0.0
        for a, b in zip(self.tokens, other.tokens, strict=False):
            largest = max(largest, abs((a.logprob or 0) - (b.logprob or 0)))
            if a.token != b.token:
                break
        return largest if bool(self.tokens) == bool(other.tokens) else float("inf")


@dataclass(frozen=True)
class Prover:
    """Asks one engine, whose model was opened as ``dtype``.

    ``live``: it answers others meanwhile, so that a batch may have another shape each time, and numbers are compared
    within what that changes. ``reference`` None: it cannot be asked then.
    """

    engine: Engine
    prompts: PromptReader
    dtype: str
    reference: Reference | None = None
    live: bool = False

    async def prove(
        self, artefacts: Iterable[Served], policy: PolicySettings, *, measure: bool = False
    ) -> tuple[ArtefactProof, ...]:
        """Every artefact in turn, at its cap."""
        prompt = self._prompt()
        plain = await self._made(prompt, ServedPlan((), "unsteered"))
        return tuple([await self._proof(one, policy, prompt, plain, measure) for one in artefacts])

    async def _proof(
        self, served: Served, policy: PolicySettings, prompt: TokenPrompt, plain: _Made, measure: bool
    ) -> ArtefactProof:
        cap, near = cap_of(served.name, ANONYMOUS, policy), _NEAR.get(self.dtype, _HALF)
        none, full = self._plan(served, 0.0), self._plan(served, cap)
        still = await self._made(prompt, none)
        # Alone, as the unsteered answer was made: beside another one rounding alone would be a change.
        steered = await self._made(prompt, full)
        _, beside = await asyncio.gather(self._made(prompt, full), self._made(prompt, ServedPlan((), "unsteered")))
        wrong = steered.broken or difference(full, steered.ended)
        unsteered = self._same(plain, still)
        alone = (plain.drifted(beside) if self.live else plain.apart(beside)) <= near
        checks = [
            Check("dose 0 unsteered", unsteered, _apart(plain, still)),
            Check("receipt", wrong is None, wrong or "as asked"),
            self._changes(plain, steered),
            Check("neighbour", alone, _apart(plain, beside)),
        ]
        broken = next((one.broken for one in (plain, still, steered, beside) if one.broken), None)
        if self.reference is not None and broken is None:
            checks.append(await _as_reference(self.reference, prompt, full, steered))
        cost = await self._cost(prompt, full) if measure else None
        return ArtefactProof(served.name, served.sha256, cap, tuple(checks), cost, broken)

    def _changes(self, plain: _Made, steered: _Made) -> Check:
        """A gate that stays shut on the probe's prompt leaves it as it was."""
        shut = any(touched.gate_open is False for touched in steered.ended.touched)
        words = f"{'its gate is shut: ' if shut else ''}{_apart(plain, steered)}"
        if shut:
            passed = self._same(plain, steered)
        else:
            rounding = _MOVED.get(self.dtype, 0.0) if self.live else 0.0
            passed = plain.apart(steered) > rounding
        return Check("changes", steered.broken is None and passed, words)

    def _same(self, plain: _Made, other: _Made) -> bool:
        """To the last bit, where nothing else is in the batch."""
        if not self.live:
            return plain.same(other)
        return plain.drifted(other) <= _NEAR.get(self.dtype, _HALF) and other.broken is None

    async def _cost(self, prompt: TokenPrompt, plan: ServedPlan) -> float:
        """Best of three, in turn."""
        seconds: dict[str, list[float]] = {}
        for _ in range(3):
            for one in (ServedPlan((), "unsteered"), plan):
                began = time.perf_counter()
                await self._made(prompt, one)
                seconds.setdefault(one.fingerprint, []).append(time.perf_counter() - began)
        return min(seconds[plan.fingerprint]) / min(seconds["unsteered"])

    def _prompt(self) -> TokenPrompt:
        if self.prompts.has_template:
            return self.prompts.chat([{"role": "user", "content": _SAID}], {})
        return self.prompts.plain(_SAID)

    def _plan(self, served: Served, dose: float) -> ServedPlan:
        return make_plan((Wanted(NamedPart(served.name, dose)),), {served.name: served}, self.prompts.make_scope)

    async def _made(self, prompt: TokenPrompt, plan: ServedPlan) -> _Made:
        drawing = Drawing(_TOKENS, temperature=0, logprobs=0)
        job = Job("proof", prompt.tokens, plan.plan, plan.names, plan.fingerprint, drawing, plan.digests)
        tokens: list[Taken] = []
        ended = Ended("error", 0, 0, ())
        async with aclosing(self.engine.answer(job)) as found:
            async for event in found:
                if isinstance(event, Chunk):
                    tokens.extend(event.tokens)
                else:
                    ended = event
        return _Made(tuple(tokens), ended)


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


def _apart(a: _Made, b: _Made) -> str:
    apart = a.apart(b)
    return "other tokens" if apart == float("inf") else f"log-probabilities {apart:.2g} apart"
