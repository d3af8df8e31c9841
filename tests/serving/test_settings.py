"""``serve.toml``: everything it can say, and that nothing in it is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.serving.settings import ArtefactRule, KeySettings, Settings, read_settings

HASH = "ab" * 32
WHOLE = f"""
model = "pilot"
[artefacts]
folder = "artefacts"
require_card = true
require_effect = false
sha256 = {{ honesty = "{HASH}" }}
[policy]
default = ["calm@0.1"]
max_dose = 0.9
max_total_dose = 1.2
[policy.artefacts.refusal]
max_dose = 0.3
scopes = ["generated"]
[[keys]]
name = "alice"
sha256 = "{HASH}"
allow = ["honesty", "calm"]
max_dose = 0.8
requests_per_minute = 60
admin = false
[audit]
file = "audit.jsonl"
prompts = "hash"
[limits]
max_tokens = 64
[engine.local]
max_batch = 8
max_wait_ms = 5
[presets]
kind = "calm@0.2"
"""


def read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "serve.toml"
    path.write_text(text)
    return read_settings(path)


def test_every_table_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert found.keys == (KeySettings("alice", HASH, ("honesty", "calm"), 0.8, 60),)
    assert found.policy.artefacts == {"refusal": ArtefactRule(0.3, ("generated",))}
    assert found.policy.default == ["calm@0.1"] and found.policy.max_total_dose == 1.2
    assert found.engine.local.max_batch == 8 and found.limits.max_tokens == 64
    assert found.artefacts.sha256 == {"honesty": HASH} and found.presets == {"kind": "calm@0.2"}


def test_an_empty_file_is_the_careful_default(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert found == Settings()
    assert found.artefacts.require_card and found.artefacts.require_effect and found.audit.prompts == "hash"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("modle = 'pilot'", "no setting modle. Did you mean 'model'?"),
        ("[policy]\nmax_dosis = 1", "no setting policy.max_dosis. Did you mean 'max_dose'?"),
        ("[policy.artefacts.a]\nscope = ['all']", "policy.artefacts.a.scope"),
        ("[policy.artefacts.a]\nscopes = ['everywhere']", "everywhere"),
        (f"[[keys]]\nname = 'a'\nsha256 = '{HASH}'\nadmim = true", "keys[1].admim"),
        ("[[keys]]\nname = 'a'\nsha256 = 'secret'", "64 digits"),
        (f"[[keys]]\nname = 'a'\nsha256 = '{HASH}'\n" * 2, "two have the name 'a'"),
        ("[policy]\nmax_dose = -1", "max_dose -1"),
        ("[policy]\nmax_dose = nan", "max_dose nan"),
        ("[policy]\nmax_dose = 'high'", "expected a number"),
        ("[audit]\nprompts = 'all'", "audit.prompts"),
        ("[limits]\nbody_bytes = 0", "body_bytes 0"),
        ("[engine.local]\nmax_batch = 0", "max_batch 0"),
        ("model = ", "cannot read the settings"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(DataError, match=r"serve\.toml") as error:
        read(tmp_path, text)
    assert word in str(error.value)
