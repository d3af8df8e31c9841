"""Names of classes that a data set stores as numbers (``ClassLabel`` of ``datasets``), put in place of the numbers.

The order of the names says nothing about which class is wanted, so a number must never reach a layout that
would take 1 for yes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

Names = Mapping[str, tuple[str, ...]]  # column -> names of its classes


def names_of_dataset(source: object) -> Names:
    """Of a ``datasets.Dataset`` or ``IterableDataset``; empty for anything else."""
    datasets = sys.modules.get("datasets")  # whoever holds one has imported it
    if datasets is None or not isinstance(source, datasets.Dataset | datasets.IterableDataset):
        return {}
    features = source.features
    return {} if features is None else names_in(features.to_dict())


def names_of_schema(metadata: Mapping[bytes, bytes] | None) -> Names:
    """Of a Parquet or Arrow file that ``datasets`` has written: its schema's metadata carry the features."""
    try:
        found = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        return names_in(found["info"]["features"])
    except (ValueError, KeyError, TypeError):
        return {}


def names_in(features: object) -> Names:
    """Of the features as ``datasets`` writes them: ``{"label": {"names": [...], "_type": "ClassLabel"}}``, also of
    lists of classes."""
    found = {}
    for column, feature in features.items() if isinstance(features, Mapping) else ():
        inner = feature.get("feature", feature) if isinstance(feature, Mapping) else None
        inner = inner[0] if isinstance(inner, list) and inner else inner
        if isinstance(inner, Mapping) and inner.get("_type") == "ClassLabel" and isinstance(inner.get("names"), list):
            found[str(column)] = tuple(map(str, inner["names"]))
    return found


def with_names(fields: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The fields with names for numbers; -1, which stands for no label, becomes None."""
    return {column: _named(value, names[column]) if column in names else value for column, value in fields.items()}


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list | tuple):
        return [_named(item, names) for item in value]
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    if value == -1:
        return None
    return names[value] if 0 <= value < len(names) else value
