"""When artefacts are proved: at the start, before a reload takes them in, and again and again while they are served."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence

from tillerman.core.errors import NotAppliedError
from tillerman.serving.artefacts import Served
from tillerman.serving.door import Door, Rules
from tillerman.serving.proof import ArtefactProof, Prover, Reference

_LOG = logging.getLogger(__name__)
_IDLE = 60.0  # seconds between looks at the settings, where they ask for no canary


async def prove(
    door: Door, names: Sequence[str], reference: Reference | None, *, dtype: str, measure: bool = False
) -> tuple[ArtefactProof, ...]:
    """Every artefact in turn; the engine has nothing else to do meanwhile."""
    prover = Prover(door.engine, door.prompts, dtype, reference)
    served = [door.rules.library[name] for name in names]
    proofs = await prover.prove(served, door.rules.settings.policy, measure=measure)
    if all(one.passed for one in proofs):
        _note(door)
    return proofs


async def ensure_new_proved(door: Door, rules: Rules, prover: Prover) -> None:
    """``NotAppliedError`` where an artefact of ``rules`` that is not served yet is not shown to steer."""
    known = {one.sha256 for one in door.rules.library.values()}
    new = [one for one in rules.library.values() if one.sha256 not in known]
    if not new:
        return
    wrong = _words(await prover.prove(new, rules.settings.policy))
    if wrong:
        raise NotAppliedError(f"{'; '.join(wrong.values())}: steering does not do here what it says")
    _note(door)


class Canary:
    """Proves one served artefact after the other while the server answers. One that fails twice is not served, and the
    server not ready, until it passes again. An answer that does not come, as under load, says nothing either way."""

    def __init__(self, door: Door, prover: Prover) -> None:
        self._door, self._prover = door, prover
        self._turn = 0

    async def watch(self) -> None:
        """For ever, every ``engine.canary_seconds``."""
        while True:
            seconds = self._door.rules.settings.engine.canary_seconds
            await asyncio.sleep(seconds or _IDLE)
            if seconds:
                await self.look()

    async def look(self) -> None:
        """One artefact: those that failed, or the next."""
        door = self._door
        served = list(door.rules.library.values())
        failed = [one for one in served if one.name in door.unproved]
        self._turn += 1
        for one in failed or [served[self._turn % len(served)]]:
            await self._one(one)

    async def _one(self, served: Served) -> None:
        policy, wrong = self._door.rules.settings.policy, ""
        for _ in range(2):
            (proof,) = await self._prover.prove([served], policy)
            if proof.broken is not None:
                _LOG.warning("%s: not proved again this time: %s", served.name, proof.broken)
                return
            wrong = _words([proof]).get(served.name, "")
            if not wrong:
                break
        if wrong:
            _LOG.error("not shown to steer any more: %s", wrong)
        else:
            _note(self._door)
        self._door.note_proof(served, wrong)


def _note(door: Door) -> None:
    door.checked = time.time()
    door.metrics.checked.set(door.checked)


def _words(proofs: Iterable[ArtefactProof]) -> dict[str, str]:
    """By name what was not shown of an artefact, and what was found."""
    found = {}
    for one in proofs:
        wrong = [f"{one.name}, {check.what}: {check.found}" for check in one.checks if not check.passed]
        if wrong:
            found[one.name] = wrong[0]
    return found
