"""Signatures under what a study found of an artefact: they hold for this steering at this cell, and for no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from tillerman.core.artefact import Artefact, digest_of
from tillerman.core.errors import ArtefactError, UsageError
from tillerman.core.signatures import is_signed, public_key, signed
from tillerman.logs.cards import studies_on
from tillerman.logs.study import StudyLog

CERTIFICATE = "certify"  # the study whose finding is a certificate


def sign(artefact: Artefact, private_key: Path, study: str = CERTIFICATE) -> Artefact:
    """The artefact with what a study found signed on its card, by Ed25519. ``UsageError`` where it found nothing."""
    if artefact.card is None or study not in artefact.card.studies:
        raise UsageError(f"the card has no study {study} to sign")
    key, signature = signed(_content(artefact, study), private_key)
    signatures = {**artefact.card.signatures, study: {"key": key, "signature": signature}}
    return replace(artefact, card=replace(artefact.card, signatures=signatures))


def check(artefact: Artefact, trust: str | None = None, study: str = CERTIFICATE) -> tuple[StudyLog, str]:
    """What the study found, and the public key that signed it for this very steering, cell and gate; no key: nobody
    has. ``trust``: the key (``ed25519:...``, or its file) that must have.

    ``ArtefactError`` for an artefact without such a study, one that was changed since it was signed, one that is not
    signed, or by another key, where somebody is trusted."""
    trusted = None if trust is None else public_key(trust)
    card = artefact.card
    found = None if card is None else next((log for log in studies_on(card) if log.study == study), None)
    if card is None or found is None:
        raise ArtefactError(f"the card has no study {study}; 'tillerman {study} ARTEFACT DATA' makes one")
    mine = card.signatures.get(study)
    if mine is None:
        if trusted is not None:
            raise ArtefactError(f"nobody signed what the study {study} found; {trusted} was expected to")
        return found, ""
    key, signature = str(mine.get("key", "")), str(mine.get("signature", ""))
    if not is_signed(_content(artefact, study), signature, key):
        raise ArtefactError(
            f"the signature of {key[:60] or 'nobody'} is not of this artefact and this finding: one of them was "
            "changed since it was signed"
        )
    if trusted is not None and key != trusted:
        raise ArtefactError(f"signed by {key}, and {trusted} was expected")
    return found, key


def _content(artefact: Artefact, study: str) -> bytes:
    assert artefact.card is not None
    facts: dict[str, Any] = {"artefact": digest_of(artefact), "study": artefact.card.studies[study]}
    return json.dumps(facts, sort_keys=True).encode()
