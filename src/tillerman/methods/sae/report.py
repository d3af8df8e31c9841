"""What a fit through an autoencoder says of itself, as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tillerman.reports.numbers import decimal


def sae_lines(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """From ``Provenance.found``."""
    lines = [
        f"autoencoder {facts['sae']} ({facts['architecture']}, {facts['atoms']} atoms): mean L0 {facts['l0']:.1f}, "
        f"unexplained variance {facts['unexplained_variance']:.2f} on the training items"
    ]
    if "masks" in facts:
        sizes = ", ".join(f"{size} by {name}" for name, size in facts["masks"].items())
        lines.append(
            f"atoms that pass: {sizes}; kept {facts['kept']} (rule {facts['rule']}, {facts['modes']}, "
            f"share {facts['share']:g})"
        )
    if "feature" in facts:
        lines.append(
            f"atom {facts['feature']}{_label(facts)}: ROC-AUC {facts['roc_auc']:.2f}, largest activation "
            f"{facts['max_activation']:.2f}, operator {facts['operator']}"
        )
    lines.append("top atoms (difference in amplitude, in frequency): " + "; ".join(map(_atom, facts["top"])))
    lines.append(f"cosine with the CAA vector of the same rows: {facts['cosine_with_caa']:.2f}")
    return tuple(lines)


def _label(facts: Mapping[str, Any]) -> str:
    """What the chosen atom means, where somebody has said it."""
    found = [row["label"] for row in facts["top"] if row["atom"] == facts["feature"] and "label" in row]
    return f" {found[0]!r}" if found else ""


def _atom(row: Mapping[str, Any]) -> str:
    label = f" {row['label']!r}" if "label" in row else ""
    amplitude, frequency = (decimal(row[name], signed=True) for name in ("amplitude", "frequency"))
    return f"{row['atom']}{label} ({amplitude}, {frequency})"
