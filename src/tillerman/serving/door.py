"""The policy app without its wire: who may have what answered, with which plan, and what is written down of it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from tillerman.serving.artefacts import Library, Served, Shelf
from tillerman.serving.asked import Asked, read_steering
from tillerman.serving.audit import Audit, prompt_facts
from tillerman.serving.engine import Drawing, Ended, Engine, Job
from tillerman.serving.metrics import Metrics
from tillerman.serving.monitors import ServedMonitor, admitted_facts, ensure_total, make_monitors
from tillerman.serving.plans import ServedPlan, ensure_meets, make_plan
from tillerman.serving.policy import Caller, caller_of, ensure_few, ensure_names, ensure_within
from tillerman.serving.prompts import PromptReader, TokenPrompt
from tillerman.serving.rates import Rates
from tillerman.serving.receipts import receipt
from tillerman.serving.refusals import Refusal, new_id
from tillerman.serving.settings import Settings

_SEEDS = 2**63
_PLANS = 1024  # plans that are kept ready


@dataclass(frozen=True)
class Rules:
    """What may be asked, as it is at one moment: a reload puts another value in its place."""

    library: Library
    settings: Settings
    default: Asked
    presets: Mapping[str, Asked]
    ready: Callable[[Asked], ServedPlan]  # what is asked for as a plan; ``Refusal`` where it cannot be served
    left_out: Mapping[str, str] = field(default_factory=dict)  # artefacts that the engine cannot serve, and why
    monitors: tuple[ServedMonitor, ...] = ()  # that follow every answer


def make_rules(shelf: Shelf, settings: Settings, prompts: PromptReader, engine: Engine) -> Rules:
    """``Refusal`` where the default plan or a preset could not be served, ``UsageError`` where a monitor could not."""
    library = shelf.library

    def servable(asked: Asked) -> ServedPlan:
        for name in (wanted.part.name for wanted in asked):
            if name in shelf.left_out:
                why = shelf.left_out[name]
                raise Refusal("not_servable", f"steering: {name}: this engine cannot serve it: {why}", "steering")
        plan = make_plan(asked, library, prompts.make_scope)
        problem = engine.problem(plan.plan)
        if problem is not None:
            raise Refusal("not_servable", f"steering: this engine cannot serve the plan: {problem}", "steering")
        return plan

    monitors = make_monitors(settings, library, servable, engine)

    @lru_cache(_PLANS)
    def ready(asked: Asked) -> ServedPlan:
        plan = servable(asked)
        ensure_total(plan, monitors, settings.policy)
        return plan

    default = read_steering(settings.policy.default, "policy.default") or ()
    presets = {name: read_steering(text, f"presets.{name}") or () for name, text in settings.presets.items()}
    for asked in (default, *presets.values()):
        ensure_within(ready(asked), Caller(), settings.policy)
    return Rules(library, settings, default, presets, ready, shelf.left_out, monitors)


@dataclass(frozen=True)
class Order:
    """A request in the engine's terms: ``choices`` answers to each prompt. ``drawing.max_tokens`` 0: as many as there
    is room for. ``seed`` None: a random one. ``steering`` None: not said."""

    model: str
    steering: Asked | None
    prompts: tuple[TokenPrompt, ...]
    drawing: Drawing
    choices: int = 1
    seed: int | None = None
    user: str | None = None


@dataclass(frozen=True)
class Admitted:
    """A request that is being answered. Answers of one prompt stand together in ``jobs``."""

    id: str
    caller: Caller
    model: str
    plan: ServedPlan
    jobs: tuple[Job, ...]
    choices: int  # answers to each prompt
    seed: int
    started: float
    monitors: tuple[ServedMonitor, ...] = ()


class Door:
    """All that the wire asks. ``name`` is the model's name for clients."""

    def __init__(
        self, engine: Engine, name: str, prompts: PromptReader, rules: Rules, audit: Audit | None, metrics: Metrics
    ) -> None:
        self.engine, self.name, self.prompts, self.rules = engine, name, prompts, rules
        self.audit, self.metrics = audit, metrics
        self.rates = Rates()
        self.stopping = False
        self.checked = 0.0  # when steering was last proved, seconds since 1970
        self.opened = time.time()
        self.read_anew: Callable[[], Rules] | None = None  # from their files; None: they came from none
        self.prove_new: Callable[[Rules], Awaitable[None]] | None = None  # those not served yet, before they are
        self.canary: Callable[[], Awaitable[None]] | None = None  # runs as long as the server does
        self.unproved: Mapping[str, str] = {}  # artefacts that are no longer shown to steer, and what was found
        self._renewing = asyncio.Lock()
        self._running = 0

    def caller(self, authorization: str | None) -> Caller:
        return caller_of(authorization, self.rules.settings.keys)

    def prepared(self, caller: Caller, order: Order) -> Admitted:
        """Everything that is asked of a request itself; nothing runs, and nothing is counted. ``Refusal`` says what is
        wrong."""
        rules = self.rules
        asked = self._asked(rules, order)
        ensure_few(asked, rules.settings.policy)
        ensure_names(asked, caller, rules.library)
        plan = rules.ready(asked)
        ensure_within(plan, caller, rules.settings.policy)
        count = len(order.prompts) * order.choices
        if count > rules.settings.limits.choices:
            raise Refusal("over_cap", f"{count} answers at once; at most {rules.settings.limits.choices}", "n")
        # given tokens are read, whatever a monitor says of them
        monitors = () if order.drawing.forced else rules.monitors
        return self._admitted(caller, order, plan, self._drawings(order, rules), monitors)

    def admit(self, caller: Caller, order: Order) -> Admitted:
        """Everything that is asked of a request before its first token; ``Refusal`` says what is wrong."""
        rules = self.rules
        if self.stopping:
            raise Refusal("stopping", "the server is stopping; ask another one, or again", retry_after=5)
        admitted = self.prepared(caller, order)
        for name in admitted.plan.names:
            if name in self.unproved:
                raise Refusal(
                    "not_proved", f"{name} is not shown to steer here any more; ask another server", "steering"
                )
        count = len(admitted.jobs)
        if self._running + count > rules.settings.limits.running:
            raise Refusal("busy", f"{self._running} answers are being made; ask again soon", retry_after=1)
        self._write("admitted", {**_facts(admitted), **self._of_prompts(order, rules)})
        self._running += count
        self.metrics.running.set(self._running)
        return admitted

    def ended(self, admitted: Admitted, ends: Sequence[Ended], outcome: str) -> None:
        """What became of it. ``Refusal`` (audit_failed) where that cannot be written down."""
        self._running -= len(admitted.jobs)
        self.metrics.running.set(self._running)
        seconds = time.monotonic() - admitted.started
        self.metrics.whole.observe(seconds)
        self.metrics.ended(admitted.plan, list(ends), outcome, admitted.monitors)
        told = {
            "id": admitted.id,
            "outcome": outcome,
            "endings": [end.ending for end in ends],
            "prompt_tokens": sum(end.prompt_tokens for end in ends) // admitted.choices,
            "answer_tokens": sum(end.answer_tokens for end in ends),
            "seconds": round(seconds, 4),
        }
        whole = len(ends) == len(admitted.jobs) and all(len(end.touched) == len(admitted.plan.acts) for end in ends)
        done = self.receipt(admitted, ends) if whole and outcome == "answered" else None
        self._write("ended", {**told, "receipt": done})

    def receipt(self, admitted: Admitted, ends: Sequence[Ended]) -> dict[str, Any]:
        """Of all its answers."""
        return receipt(admitted.plan, ends, self.engine.about.engine, admitted.monitors)

    def refused(self, caller: Caller | None, refusal: Refusal) -> None:
        """Counted; written down where the caller is known. Who asks too often would fill the disk."""
        self.metrics.refused.labels(refusal.code).inc()
        if caller is not None and refusal.code not in ("rate_limit_exceeded", "audit_failed", "busy"):
            told = {"code": refusal.code, "param": refusal.param}
            self._write("refused", {"id": refusal.request_id, "key": caller.name, **told})

    async def renew(self) -> None:
        """Other rules from now on, for requests that come; those that run keep theirs. ``TillermanError`` where they
        cannot be read, and then all stays as it was."""
        if self.read_anew is None:
            raise Refusal("not_found", "this server reads its rules from no file")
        async with self._renewing:
            rules = await asyncio.to_thread(self.read_anew)
            if self.prove_new is not None:
                await self.prove_new(rules)
            same = {name for name, one in rules.library.items() if self._serves(one)}
            self.rules, self.unproved = rules, {name: why for name, why in self.unproved.items() if name in same}
            self.metrics.unproved.set(len(self.unproved))

    def note_proof(self, served: Served, wrong: str) -> None:
        """What a proof beside running requests has found; ``wrong`` empty: all is well."""
        if self._serves(served):
            rest = {name: why for name, why in self.unproved.items() if name != served.name}
            self.unproved = {**rest, served.name: wrong} if wrong else rest
            self.metrics.unproved.set(len(self.unproved))

    def _serves(self, served: Served) -> bool:
        mine = self.rules.library.get(served.name)
        return mine is not None and mine.sha256 == served.sha256

    def _asked(self, rules: Rules, order: Order) -> Asked:
        """Of the field, the model's alias, or the server's default."""
        alias: Asked | None = None
        if order.model != self.name:
            if order.model in rules.presets:
                alias = rules.presets[order.model]
            elif order.model.startswith(f"{self.name}+"):
                alias = read_steering(order.model.removeprefix(f"{self.name}+"), "model")
            else:
                raise Refusal("model_not_found", f"no model {order.model[:60]!r}; here is {self.name!r}", "model")
        if alias is not None and order.steering is not None:
            raise Refusal("malformed", "steering is given twice: by the model's name, and by field or header", "model")
        said = order.steering if alias is None else alias
        return rules.default if said is None else said

    def _drawings(self, order: Order, rules: Rules) -> list[Drawing]:
        """One per prompt, with the most tokens that may follow it."""
        most, context = rules.settings.limits.max_tokens, self.engine.about.context
        wanted = order.drawing.max_tokens
        if wanted > most:
            raise Refusal("over_cap", f"max_tokens {wanted}: at most {most} on this server", "max_tokens")
        found = []
        for prompt in order.prompts:
            room = context - len(prompt.tokens)
            if not prompt.tokens:
                raise Refusal("malformed", "the prompt is empty", "prompt")
            if room < max(1, wanted):
                raise Refusal(
                    "context_length_exceeded",
                    f"the prompt has {len(prompt.tokens)} tokens and {max(1, wanted)} were to follow; the model reads "
                    f"{context} in all",
                    "messages" if len(order.prompts) == 1 else "prompt",
                )
            found.append(replace(order.drawing, max_tokens=wanted or min(most, room)))
        return found

    def _admitted(
        self,
        caller: Caller,
        order: Order,
        plan: ServedPlan,
        drawings: Sequence[Drawing],
        monitors: tuple[ServedMonitor, ...],
    ) -> Admitted:
        alarms = tuple(one.alarm for one in monitors)
        id, made = new_id(), list[Job]()
        seed = secrets.randbelow(2**31) if order.seed is None else order.seed % _SEEDS
        for prompt, drawing in zip(order.prompts, drawings, strict=True):
            ensure_meets(plan, prompt.tokens, drawing.max_tokens)
            for _ in range(order.choices):
                own = replace(drawing, seed=(seed + len(made)) % _SEEDS)
                name = f"{id}-{len(made)}"
                made.append(
                    Job(name, prompt.tokens, plan.plan, plan.names, plan.fingerprint, own, plan.digests, alarms)
                )
        return Admitted(id, caller, order.model, plan, tuple(made), order.choices, seed, time.monotonic(), monitors)

    def _of_prompts(self, order: Order, rules: Rules) -> dict[str, Any]:
        kept = [
            prompt_facts(one.text or " ".join(map(str, one.tokens)), rules.settings.audit.prompts)
            for one in order.prompts
        ]
        return {"prompts": kept} | ({} if order.user is None else {"user": order.user})

    def _write(self, event: str, facts: Mapping[str, Any]) -> None:
        if self.audit is not None:
            self.audit.write(event, facts)


def _facts(admitted: Admitted) -> dict[str, Any]:
    return {
        "id": admitted.id,
        "key": admitted.caller.name,
        "model": admitted.model,
        "plan": admitted.plan.fingerprint,
        "acts": [{**act.to_json(), "dose": act.dose} for act in admitted.plan.acts],
        "answers": len(admitted.jobs),
        "seed": admitted.seed,
        **admitted_facts(admitted.monitors),
    }
