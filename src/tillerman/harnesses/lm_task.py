"""The task of an exported folder, for lm-eval. This file is copied beside the items and needs no Tillerman."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from datasets import Dataset


def items(**_: object) -> dict[str, Dataset]:
    """The items beside this file. lm-eval hands over what its command line was told; none of it matters here."""
    lines = Path(__file__).with_name("items.jsonl").read_text(encoding="utf-8").splitlines()
    return {"test": Dataset.from_list([json.loads(line) for line in lines])}


def accuracy(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """1 if the right choice has the highest log-probability per token, as Tillerman scores answers, else 0;
    a score that is not a number is no answer."""
    means = [score / tokens for (score, _), tokens in zip(results, doc["tokens"], strict=True)]
    answered = not any(math.isnan(mean) for mean in means)
    return {"acc": float(answered and means.index(max(means)) == doc["right"])}
