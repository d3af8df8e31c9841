"""Methods that see two sides of rows in the atoms of a sparse autoencoder, at the autoencoder's own hook point."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from tillerman.core.errors import HookPointError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.provenance import Provenance
from tillerman.core.registry import Registry
from tillerman.core.rows import ContrastSet, Row
from tillerman.core.spec import in_head, option
from tillerman.core.steerings.vector import SteeringVector
from tillerman.methods.base import Context, Fitted, Method
from tillerman.methods.caa import Caa
from tillerman.methods.contrast import ContrastMethod
from tillerman.methods.estimators import estimate
from tillerman.methods.fit import Activations, shuffled
from tillerman.methods.pas import IpasAll, IpasWrong, PasFull
from tillerman.methods.prompts import PromptContrast, PromptVector
from tillerman.methods.sae.encoded import AtomDirection, Encoded
from tillerman.methods.sae.report import sae_lines
from tillerman.models.sae.autoencoder import SAE
from tillerman.models.sae.files import open_sae
from tillerman.models.sae.latents import Latents, read_latents
from tillerman.models.sae.quality import Quality, ensure_belongs

CHECKED = 64  # training items that an autoencoder is checked on

# Whose rows may be encoded: those of ``caa``, or, in a name such as ``ipas-wrong+sta``, of another pairing.
PAIRINGS: Registry[type[ContrastMethod]] = Registry(
    "pairing", {kind.name: kind for kind in (Caa, PasFull, IpasAll, IpasWrong, PromptVector, PromptContrast)}
)


@dataclass(frozen=True)
class SaeMethod(Method):
    """A rule for a direction made of atoms. ``sae``, ``at`` and ``labels`` are what ``open_sae`` takes."""

    pairing: str = in_head("caa")
    sae: str | None = option(None, "the autoencoder: a folder or file, an hf:// address, a name of SAELens, or pilot")
    at: str | None = option(None, "hook point of the autoencoder, where its files do not say")
    labels: str | None = option(None, "file that says what atoms mean: JSON, or as Neuronpedia exports it")

    def __post_init__(self) -> None:
        _ = PAIRINGS[self.pairing]
        super().__post_init__()
        if self.at is not None:
            HookPoint.parse(self.at)

    @property
    def head(self) -> str:
        return self.name if self.pairing == "caa" else f"{self.pairing}+{self.name}"

    @abstractmethod
    def atoms(self, encoded: Encoded, gap: Float[Tensor, " d"]) -> AtomDirection:
        """The direction; ``gap`` is the CAA vector of the same rows."""

    def ensure_complete(self) -> None:
        if self.sae is None:
            raise UsageError(f"{self.head} reads a sparse autoencoder: --method {self.head}:sae=PATH, or sae=pilot")

    def sources(self) -> tuple[str, ...]:
        return (self.opened().fingerprint,)

    def opened(self) -> SAE:
        """The autoencoder, read from its files."""
        self.ensure_complete()
        assert self.sae is not None
        return open_sae(self.sae, at=None if self.at is None else HookPoint.parse(self.at), labels=self.labels)

    def vector(self, activations: Activations, encoded: Encoded, provenance: Provenance) -> SteeringVector:
        """At the one hook point that the autoencoder was made for."""
        point = encoded.sae.point
        sides = activations.positive[point], activations.negative[point]
        found = self.atoms(encoded, estimate("mean_difference", *sides, activations.paired))
        return SteeringVector(
            {point: found.direction},
            {point: activations.stream_norms[point]},
            replace(provenance, found=found.facts),
            {} if found.atom is None else {point: found.atom},
        )

    def fit(self, context: Context) -> SteeringVector:
        return self.vector(*self._read(context), context.provenance)

    def fitted(self, context: Context) -> Fitted:
        """The nulls are made from the same activations and latents."""
        activations, encoded = self._read(context)
        vector = self.vector(activations, encoded, context.provenance)

        def null(seed: int) -> SteeringVector:
            dealt = encoded.shuffled(activations.paired, seed)
            return self.vector(shuffled(activations, seed), dealt, context.provenance)

        return Fitted(self, vector, partial(self.random, vector), null)

    def report(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        return sae_lines(found)

    def _read(self, context: Context) -> tuple[Activations, Encoded]:
        contrast = PAIRINGS[self.pairing]().pair(context)
        sae, quality = self._checked(context)
        return context.read(contrast, (sae.point,)).activations, self._encoded(context, contrast, sae, quality)

    def _checked(self, context: Context) -> tuple[SAE, Quality]:
        """The autoencoder, checked on the training items."""
        sae, opened = self.opened(), context.opened
        sae.check_fits(HookPoint(sae.point.layer, context.read_site), opened.parts.width_at(sae.point))
        if sae.point.layer not in {point.layer for point in context.points}:
            raise HookPointError(f"--layers leaves out layer {sae.point.layer}, which the autoencoder {sae.name} reads")
        rows = [Row(row.tokens) for row in (w.row(w.right) for w in context.written[:CHECKED])]
        here = context.store.scoped(opened.identity, sae.fingerprint, sae.point, rows)
        return sae, Quality(**here.value("quality", lambda: asdict(ensure_belongs(opened, sae, rows))))

    def _encoded(self, context: Context, contrast: ContrastSet, sae: SAE, quality: Quality) -> Encoded:
        """Both sides in the autoencoder's atoms: encoded at every token that is read, then pooled (STA averages
        what was encoded, which is not what encoding the average gives)."""
        rows = contrast.positive + contrast.negative

        def make() -> dict[str, Tensor]:
            with context.stage(f"atoms, {self}", len(rows)) as progress:
                made = read_latents(context.opened, sae, rows, read=context.pooling, progress=progress)
            return {"mean": made.mean, "peak": made.peak}

        here = context.store.scoped(context.opened.identity, sae.fingerprint, sae.point, rows, context.pooling)
        both = Latents(**here.tensors("latents", make))
        count = len(contrast.positive)
        return Encoded(sae, quality, both[:count], both[count:])
