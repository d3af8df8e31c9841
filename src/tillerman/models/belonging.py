"""Whether vectors belong to a model that was never opened: by its weights, which are all that it tells of itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from weakref import WeakKeyDictionary

from transformers import PreTrainedModel

from tillerman.core.errors import MismatchError
from tillerman.core.provenance import Provenance
from tillerman.models.fingerprint import original_fingerprint, weights_state

# State of the weights when they were last looked at, and their fingerprint.
_KNOWN: WeakKeyDictionary[PreTrainedModel, tuple[int, str]] = WeakKeyDictionary()
# Fingerprints of other models whose vectors were allowed on this one.
_ALLOWED: WeakKeyDictionary[PreTrainedModel, set[str]] = WeakKeyDictionary()


def remember_allowed(causal: PreTrainedModel, provenance: Provenance) -> None:
    """From now on vectors of this provenance may be used on the model, however it is handed in."""
    _ALLOWED.setdefault(causal, set()).add(provenance.model_fingerprint)


def foreign_weights(
    causal: PreTrainedModel, provenances: Iterable[Provenance], *, allow_mismatch: bool
) -> tuple[str, ...]:
    """What was fitted on other weights: ``MismatchError``, or, allowed, a warning each. A provenance whose fingerprint
    is none (of vectors made by hand) says nothing of a model, and what was allowed before is not asked again."""
    allowed = _ALLOWED.get(causal, set())
    made = [
        one for one in provenances if is_fingerprint(one.model_fingerprint) and one.model_fingerprint not in allowed
    ]
    ours = current_fingerprint(causal) if made else ""
    found = tuple(
        f"weights: artefact of {one.model_id} has {one.model_fingerprint}, this {type(causal).__name__} has {ours}"
        for one in made
        if one.model_fingerprint != ours
    )
    if found and not allow_mismatch:
        raise MismatchError(
            f"the artefact does not belong to this model ({'; '.join(found)}); fit on this model, or allow it: "
            "allow_mismatch=True, on the command line --allow-mismatch"
        )
    return found


def is_fingerprint(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{16}", text) is not None


def current_fingerprint(causal: PreTrainedModel) -> str:
    """Of the weights as they are now; computed again only where one was written to or replaced."""
    state = weights_state(causal)
    known = _KNOWN.get(causal)
    if known is None or known[0] != state:
        known = _KNOWN[causal] = (state, original_fingerprint(causal))
    return known[1]
