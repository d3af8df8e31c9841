"""Shared set-up: offline, one thread, shapes and types of the package checked at every call."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import jaxtyping

# Before the first import of tillerman: every annotation, tensor shapes included, becomes a check.
# Left out: cli and pipeline (typer reads their signatures; their protocols are for mypy only), data and the
# report (no tensors; an int is a float to mypy and not to beartype).
_ROOMS = (
    "core",
    "models",
    "methods",
    "steering",
    "selection",
    "statistics.estimates",
    "statistics.tango",
    "statistics.equivalence",
    "statistics.power",
    "evaluation.scoring",
    "evaluation.side_effects",
    "evaluation.exam",
)
_CHECKED = jaxtyping.jaxtyped


def _checked(what: Any = None, *, typechecker: Any) -> Any:
    """``jaxtyped``, but for functions made in functions: a check of these would be compiled anew at every call of what
    makes them, which took a third of the time of all tests."""
    if what is None:
        return partial(_checked, typechecker=typechecker)
    return what if "<locals>" in what.__qualname__ else _CHECKED(what, typechecker=typechecker)


jaxtyping.jaxtyped = _checked
jaxtyping.install_import_hook([f"tillerman.{room}" for room in _ROOMS], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from tillerman.models.opened import OpenModel  # noqa: E402

from . import tiny  # noqa: E402

torch.set_num_threads(1)
# derandomize: the same examples in every run, so that a red test is red again.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
settings.load_profile("house")


@pytest.fixture(params=sorted(tiny.CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    """Every supported model family in turn."""
    return str(request.param)


@pytest.fixture
def opened() -> OpenModel:
    """A small llama with a tokenizer that has no chat template."""
    return tiny.opened("llama")


def pytest_configure(config: pytest.Config) -> None:
    # beartype draws the item it checks at random; hypothesis takes that for ours.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")
