"""What the door and an engine say to each other: a job in, a stream of chunks out, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tillerman.core.alarms import Alarm
from tillerman.core.plan import Plan

# aborted: a monitor has ended the answer
Ending = Literal["stop", "length", "aborted", "cancelled", "error"]


@dataclass(frozen=True)
class Drawing:
    """How the tokens of one answer are taken, all of it the request's own: no row of a batch depends on another's.

    ``temperature`` 0 takes the most likely token. ``top_k`` 0 and ``top_p`` 1 leave all tokens in. ``stop`` texts end
    an answer before they are shown. ``logit_bias`` is added to the logits of these token ids. ``logprobs`` asks for
    the log-probability of every token taken, and that many alternatives; None asks for none. ``forced`` token ids are
    taken first, whatever their probability; only an engine that says ``forces`` is asked for them.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop: tuple[str, ...] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    forced: tuple[int, ...] = ()


@dataclass(frozen=True)
class Job:
    """One answer to make: the prompt's token ids as the model reads them, the plan on it, how tokens are taken.

    ``names`` and ``digests`` have, for each intervention of ``plan``, the artefact that it comes from and the sha256
    of its file; ``fingerprint`` is of the whole plan and of the digests (the empty plan has one, too). ``alarms``
    follow the answer; only an engine that says ``watches`` is given any.
    """

    id: str
    prompt: tuple[int, ...]
    plan: Plan
    names: tuple[str, ...]
    fingerprint: str
    drawing: Drawing
    digests: tuple[str, ...] = ()
    alarms: tuple[Alarm, ...] = ()


@dataclass(frozen=True)
class Taken:
    """One token of an answer: its id, text, log-probability in nats, and the likeliest alternatives (id, text,
    log-probability), the likeliest first. Log-probabilities are None where they were not asked for."""

    token: int
    text: str
    logprob: float | None = None
    others: tuple[tuple[int, str, float], ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A next bit of an answer. ``text`` holds whole characters only and nothing of a stop text; it may be empty
    where tokens were taken whose text is not yet certain."""

    text: str
    tokens: tuple[Taken, ...] = ()


@dataclass(frozen=True)
class Touched:
    """What was done for one intervention of a job: tokens changed at each hook point, over prompt and answer."""

    tokens: Mapping[str, int]
    gate_open: bool | None = None  # None: there is no gate


@dataclass(frozen=True)
class Followed:
    """What became of one alarm of a job: after how many tokens of the answer it was crossed (0: by the prompt; None:
    not at all), its statistic there or else at last, and what was done for each intervention that it switches on."""

    token: int | None
    value: float | None
    touched: tuple[Touched, ...] = ()


@dataclass(frozen=True)
class Ended:
    """The last word on a job. ``touched`` stands in the order of the job's plan, ``followed`` in that of its alarms. An
    ``error`` says why in ``why``, in words fit for the client: no prompt, no path."""

    ending: Ending
    prompt_tokens: int
    answer_tokens: int
    touched: tuple[Touched, ...]
    cached_tokens: int = 0
    why: str = ""
    warnings: tuple[str, ...] = ()
    followed: tuple[Followed, ...] = ()


@dataclass(frozen=True)
class About:
    """Who an engine is: ``engine`` names it with its version (``local-0.1.0``); ``context`` is the maximum
    number of tokens of prompt and answer together; ``forces``: it can take given tokens (``Drawing.forced``);
    ``watches``: monitors can follow its answers (``Job.alarms``)."""

    engine: str
    model: str
    fingerprint: str
    layers: int
    context: int
    forces: bool = False
    watches: bool = False


class Engine(Protocol):
    """A model that makes steered answers. Errors of a job come as ``Ended``; what is raised is a fault."""

    @property
    def about(self) -> About: ...

    def problem(self, plan: Plan) -> str | None:
        """Why this engine cannot serve the plan, in one sentence, or None."""

    async def start(self) -> None:
        """Ready to answer when it returns."""

    def answer(self, job: Job) -> AsyncGenerator[Chunk | Ended, None]:
        """Chunks, then exactly one ``Ended``. Closing the generator early cancels the job and frees its row."""

    async def alive(self) -> str | None:
        """None while it works, else what is wrong."""

    async def close(self) -> None:
        """Running jobs end as ``cancelled``; nothing of the engine stays behind."""
