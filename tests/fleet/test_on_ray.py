"""Replicas on Ray: what is told without Ray, and what it is given. What needs Ray itself was run by hand."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from tillerman.core.errors import UsageError
from tillerman.fleet.replica import BatchOptions, ReplicaSpec
from tillerman.serving.settings import read_settings

from ..serving import made as serving


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "tillerman.fleet.on_ray", raising=False)
    with pytest.raises(UsageError, match=r"replicas need Ray.*pip install 'tillerman\[ray\]'"):
        importlib.import_module("tillerman.fleet.on_ray")


def test_a_description_goes_to_another_process_and_comes_back_the_same(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text(serving.keyed() + '[policy.artefacts.honesty]\nscopes = ["all"]\n')
    for settings in (BatchOptions(4, 0.5, allow_unproven=True).settings(), read_settings(tmp_path / "serve.toml")):
        spec = ReplicaSpec("pilot", "demo", {"device": "cpu"}, settings, allow_mismatch=True)
        told = json.dumps(spec.to_json())
        assert (
            json.dumps(ReplicaSpec.from_json(json.loads(told)).to_json()) == told and '"allow_mismatch": true' in told
        )


def test_replicas_are_not_of_vllm(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text('[engine]\nname = "vllm"\n')
    with pytest.raises(UsageError, match="replicas run the local engine"):
        ReplicaSpec("pilot", "demo", {}, read_settings(tmp_path / "serve.toml"))
