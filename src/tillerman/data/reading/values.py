"""Values of rows in memory as plain Python: arrays and tensors as lists and numbers, missing ones as None."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy


def plain(value: Any) -> Any:
    """The same value without arrays, tensors and scalars of libraries.

    A library that was never imported made none of the values, so none is imported here.
    """
    if value is None or isinstance(value, str | bool) or type(value) in (int, float):
        return str(value) if isinstance(value, numpy.str_) else value
    if isinstance(value, numpy.generic | numpy.ndarray):
        return _listed(value.tolist())
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else list(map(plain, value))
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return _of_libraries(value)


def _listed(value: Any) -> Any:
    return [plain(one) for one in value] if isinstance(value, list) else value


def _of_libraries(value: Any) -> Any:
    torch, pandas = sys.modules.get("torch"), sys.modules.get("pandas")
    if torch is not None and isinstance(value, torch.Tensor):
        return value.detach().cpu().tolist()
    if pandas is not None and (value is pandas.NA or value is pandas.NaT):
        return None
    return value
