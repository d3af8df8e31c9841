"""Where a steering artefact comes from, and what was measured about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tillerman.core.decoding import build
from tillerman.core.opening import precision_words
from tillerman.core.shown import Shown


@dataclass(frozen=True, repr=False)
class Provenance(Shown):
    """All that is needed to say what a vector is and whether it fits a model."""

    model_id: str
    model_fingerprint: str
    width: int
    layers: int
    tokenizer_hash: str
    template_hash: str
    template: str  # "chat" or "none": how the fit prompts were written
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    data_name: str = ""
    data_digest: str = ""
    split: Mapping[str, int] = field(default_factory=dict)  # items per share
    read_positions: str = "last"
    read_site: str = "resid_post"
    site: str = "resid_post"
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    date: str = ""
    opened: Mapping[str, str] = field(default_factory=dict)  # dtype, quantize, attention, device, revision of the model
    found: Mapping[str, Any] = field(default_factory=dict)  # what the method reports of its own fit
    origin: str = ""  # the address that the file was fetched from, with its commit or digest

    def shown(self) -> dict[str, object]:
        return {
            "method": self.method,
            "data": self.data_name,
            "model": f"{self.model_id} ({self.model_fingerprint})",
            **({"precision": precision_words(self.opened)} if self.opened else {}),
            "read": f"{self.read_site} ({self.read_positions})",
            "added at": self.site,
            "template": self.template,
            "seed": self.seed,
            "date": self.date,
            **({"origin": self.origin} if self.origin else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """Without an origin where there is none, as files have always been."""
        return {name: value for name, value in asdict(self).items() if value or name != "origin"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Provenance:
        return build(cls, values, "provenance")


@dataclass(frozen=True, repr=False)
class Card(Shown):
    """What was measured about an artefact at its cell.

    ``report`` is the whole typed log of the evaluation (see ``tillerman.logs.evaluation``), with its intervals, nulls
    and side effects; ``studies`` what each study found (``tillerman.logs.study``); ``signatures`` who signed that
    it is of this artefact (``key`` and ``signature`` by the study's name; ``tillerman.evaluation.certificates``).
    """

    report: Mapping[str, Any] = field(default_factory=dict)
    studies: Mapping[str, Any] = field(default_factory=dict)
    signatures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What was measured, in a few words."""
        asked = {condition["name"]: condition for condition in self.report.get("conditions", ())}
        effect = asked.get("steered", {}).get("effect")
        parts = [f"studies: {', '.join(self.studies)}"] if self.studies else []
        if effect:
            low, high = (100 * effect["interval"][end] for end in ("low", "high"))
            parts.insert(0, f"effect {100 * effect['value']:+.0f} pp ({low:.0f} to {high:.0f}) on {effect['n']} items")
        return "; ".join(parts) or "nothing"

    def shown(self) -> dict[str, object]:
        return {"measured": self.summary, "of": ", ".join(self.report)}

    def to_json(self) -> dict[str, Any]:
        """Without signatures where there are none, as files have always been."""
        return {name: value for name, value in asdict(self).items() if value or name != "signatures"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Card:
        return build(cls, values, "card")
