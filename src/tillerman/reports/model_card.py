"""The README of artefacts on the hub: a YAML header that the hub reads, and what was measured, for people. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tillerman.core.provenance import Provenance
from tillerman.reports.account import Account
from tillerman.reports.artefact import provenance_words
from tillerman.reports.tables import to_markdown

_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_TAGS = ("tillerman", "activation-steering", "steering-vector")


@dataclass(frozen=True)
class Shared:
    """An artefact as its card tells it: file, where it comes from, how it is applied, what was measured (None:
    nothing)."""

    file: str
    provenance: Provenance
    cell: str
    dose: str
    account: Account | None


def model_card(repo: str, shared: Sequence[Shared], license_name: str | None) -> str:
    """Markdown with its header. Models that lie in a folder of the maker's are named by that folder's last part."""
    card = "\n".join((_header(shared, license_name), f"# {repo.rpartition('/')[2]}", "", *_body(repo, shared))) + "\n"
    for own in {one.provenance.model_id for one in shared}:
        card = card.replace(own, public_name(own))  # also where a report names it
    return card


def public_name(model_id: str) -> str:
    """A hub name as it is; of a path its last part, so that no folder of the maker's is published."""
    if _ON_HUB.fullmatch(model_id) and not model_id.startswith("."):
        return model_id
    return re.split(r"[/\\]", model_id.rstrip("/\\"))[-1]


def _header(shared: Sequence[Shared], license_name: str | None) -> str:
    bases = sorted(
        {
            one.provenance.model_id
            for one in shared
            if public_name(one.provenance.model_id) == one.provenance.model_id and "/" in one.provenance.model_id
        }
    )
    lines = ["---", "library_name: tillerman"]
    if license_name:
        lines.append(f"license: {json.dumps(license_name)}")  # quoted as JSON is quoted in YAML
    if bases:
        lines += ["base_model:", *(f"- {json.dumps(base)}" for base in bases)]
    return "\n".join((*lines, "tags:", *(f"- {tag}" for tag in _TAGS), "---", ""))


def _body(repo: str, shared: Sequence[Shared]) -> list[str]:
    many = len(shared) > 1
    files = "artefacts" if many else "artefact"
    lines = [
        f"Steering {files} of Tillerman: directions that are added to, or removed "
        "from, the activations of a language model while it runs.",
        "",
        "```sh",
        "pip install tillerman",
        f"tillerman show hf://{repo}{'/' + shared[0].file if many else ''}",
        f"tillerman generate --artefact hf://{repo}{'/' + shared[0].file if many else ''} 'How was your day?'",
        "```",
        "",
    ]
    for one in shared:
        words = provenance_words(one.provenance)
        lines += [
            f"## {one.file}",
            "",
            *(f"* {word}" for word in words),
            f"* applied at {one.cell}, dose {one.dose}",
            "",
        ]
        if one.account is None:
            lines += ["Nothing was measured of it yet.", ""]
        else:
            lines += [re.sub(r"^#", "##", to_markdown(one.account), flags=re.MULTILINE), ""]
    return lines
