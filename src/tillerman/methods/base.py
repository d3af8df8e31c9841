"""What a method is, and what it is given: a frozen value with its options that makes a steering of training items.

A method of one's own is a frozen dataclass: ``name``, options as fields, and ``fit``. One that only reads activations
of two sides starts from ``methods.contrast.ContrastMethod`` instead.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from tillerman.core.errors import FitError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.rows import ContrastSet, Progress, Row, silent
from tillerman.core.spec import checked, write_options
from tillerman.core.steerings.base import Steering
from tillerman.core.store import Store
from tillerman.data.pairings import another
from tillerman.data.presenting import Item
from tillerman.data.writing import Writer, Written
from tillerman.models.gradients import Taught
from tillerman.models.opened import OpenModel

if TYPE_CHECKING:
    from tillerman.methods.activations import Reading


def _unwatched(title: str, total: int) -> AbstractContextManager[Progress]:
    del title, total
    return nullcontext(silent)


def _unread(contrast: ContrastSet, points: Sequence[HookPoint]) -> Reading:
    del contrast, points
    raise FitError("this context has no activations: a run reads them (tillerman.fit)")


@dataclass(frozen=True, eq=False)
class Context:
    """What a method is fitted from: training items as they are shown to the model, and where it may be steered.

    ``written[i]`` is ``items[i]`` as tokens; its ``right`` is the wanted answer.
    """

    opened: OpenModel
    items: tuple[Item, ...]
    written: tuple[Written, ...]
    writer: Writer
    points: tuple[HookPoint, ...]
    provenance: Provenance
    seed: int = 0
    progress: Progress = silent
    replies: Callable[[], Sequence[Row]] = tuple  # the unsteered model's own answers, prompts included
    predictions: Callable[[], Sequence[int]] = tuple  # the place of the answer it chooses, for each item
    dealt: int | None = None  # the seed by which labels were shuffled
    prompt: Callable[[], str] = str  # what asks for the behaviour in words: given, or found on validation items; or ""
    contrast_writer: Callable[[], Writer] | None = None  # how rows of two sides are written; None: as the items are
    read_site: str = "resid_post"
    pooling: str = "last"  # or mean: which tokens of a row are read
    sides: Reading | None = None  # what was read for a contrast method, in one pass with other methods
    read: Callable[[ContrastSet, Sequence[HookPoint]], Reading] = _unread  # reads rows for one method alone
    store: Store = field(default_factory=lambda: Store(None, ""))
    stage: Callable[[str, int], AbstractContextManager[Progress]] = _unwatched

    @property
    def sides_writer(self) -> Writer:
        return self.writer if self.contrast_writer is None else self.contrast_writer()

    def shuffled(self, seed: int) -> Context:
        """The shuffled-label null: of every item an answer drawn at random is the wanted one."""
        chance = random.Random(seed)
        drawn = [chance.randrange(len(w.answers)) for w in self.written]
        return replace(
            self,
            items=tuple(replace(item, right=k) for item, k in zip(self.items, drawn, strict=True)),
            written=tuple(replace(w, right=k) for w, k in zip(self.written, drawn, strict=True)),
            dealt=seed,
        )

    def preferences(self, needs: str) -> list[Taught]:
        """Of every item the wanted answer and the one that ``caa`` sets against it. ``needs`` is what the method does
        with them, for the ``FitError`` where items are labelled texts."""
        if self.items[0].example.kind == "text":
            raise FitError(f"{needs}; labelled texts have none: use --method caa")
        return [
            Taught(w.prompt, (w.answers[w.right], w.answers[another(item)]))
            for item, w in zip(self.items, self.written, strict=True)
        ]


@dataclass(frozen=True)
class Habits:
    """What a method does where nothing else is asked for: its site, scope and doses (None: those of an
    experiment), the operator of its vectors, and whether it steers all its hook points at once (``joint``)
    or the validation split chooses one. ``shared``: a dose is that of all hook points together, not of each."""

    site: str | None = None
    scope: str | None = None
    doses: tuple[float, ...] | None = None
    operator: str = "add"
    joint: bool = False
    shared: bool = False


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method's vector, and how its nulls are made, by seed. ``together``: it is added at all its hook points at once,
    whatever the method does otherwise."""

    method: Method
    vector: Steering
    random: Callable[[int], Steering]
    shuffled: Callable[[int], Steering]
    together: bool = False

    @property
    def habits(self) -> Habits:
        """The method's, with those of a vector that is added at several layers."""
        return replace(self.method.habits, joint=True, shared=True) if self.together else self.method.habits


@dataclass(frozen=True)
class Method(ABC):
    """A rule that makes a steering of labelled examples. Its fields are its options; ``str`` gives the spec that
    ``--method`` reads. ``core.spec.option`` gives a field a range and words.

    ``UsageError`` names an option whose value is of the wrong type or out of range.
    """

    name: ClassVar[str]
    habits: ClassVar[Habits] = Habits()
    gates_itself: ClassVar[bool] = False  # its steering decides on the prompt, and takes no gate beside that

    def __post_init__(self) -> None:
        for name, value in checked(self.head, self).items():
            object.__setattr__(self, name, value)

    @property
    def head(self) -> str:
        """The spec up to its colon."""
        return self.name

    def __str__(self) -> str:
        return self.head + write_options(self.head, self)

    @abstractmethod
    def fit(self, context: Context) -> Steering:
        """The steering; ``FitError`` where these items give none."""

    def fitted(self, context: Context) -> Fitted:
        """The steering with its nulls: random directions, and a fit on shuffled labels."""
        with context.stage(f"fit, {self}", len(context.items)) as progress:
            vector = self.fit(replace(context, progress=progress))
        return Fitted(self, vector, partial(self.random, vector), lambda seed: self.fit(context.shuffled(seed)))

    def random(self, steering: Steering, seed: int) -> Steering:
        """The random null that belongs to its steering."""
        return steering.random_like(seed)

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        """What a fit says of itself, as lines for people, from the ``found`` of its provenance."""
        del found
        return ()

    def ensure_complete(self) -> None:
        """``UsageError`` where an option without which nothing can be fitted is missing."""
        return

    def spared(self) -> tuple[str, ...]:
        """Text that it is fitted to leave alone, by the names that ``neutral`` takes: what steering costs is not
        measured on it."""
        return ()

    def sources(self) -> tuple[str, ...]:
        """Fingerprints of the files that it reads: other files at the same place are another run."""
        return ()
