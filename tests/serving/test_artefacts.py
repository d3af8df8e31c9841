"""The folder of artefacts: all of it, or nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tillerman.cli.serve_options import ServeOptions
from tillerman.core.artefact import load, save
from tillerman.core.errors import ArtefactError, MismatchError
from tillerman.core.packs import write_pack
from tillerman.core.signatures import new_key
from tillerman.exchange.sharing import pushed
from tillerman.serving.artefacts import Demands, Library, read_library, read_shelf
from tillerman.serving.asked import read_steering
from tillerman.serving.door import make_rules
from tillerman.serving.prompts import PromptReader
from tillerman.serving.refusals import Refusal
from tillerman.serving.settings import ArtefactSettings, Settings

from .. import tiny
from ..hub import hub_stand_in
from . import made

CAREFUL = ArtefactSettings()


def read(path: Path, rules: ArtefactSettings = CAREFUL, demands: Demands = made.ANY) -> Library:
    return read_library(path, rules, demands)


def test_every_file_is_served_by_its_stem_with_digest_and_card(tmp_path: Path) -> None:
    library = read(made.folder(tmp_path))
    assert sorted(library) == ["calm", "honesty"]
    one = library["honesty"]
    assert one.sha256 == hashlib.sha256((tmp_path / "honesty.safetensors").read_bytes()).hexdigest()
    facts = json.loads(json.dumps(one.facts))
    assert facts["dose"] == pytest.approx(0.3) and facts["hook_points"] == ["layers.0.resid_post"]
    assert facts["card"]["effect_found"] is True and facts["card"]["interval"][0] > 0
    assert str(tmp_path) not in json.dumps(facts)


def test_a_pack_is_served_if_the_trusted_key_signed_it(tmp_path: Path) -> None:
    folder, key = made.folder(tmp_path / "a"), new_key(tmp_path / "key.pem")
    write_pack(folder, tmp_path / "key.pem")
    assert len(read(folder, replace(CAREFUL, trust=key))) == 2
    with pytest.raises(ArtefactError, match=r"pack\.json: is signed by ed25519:.* is trusted"):
        read(folder, replace(CAREFUL, trust=new_key(tmp_path / "other.pem")))
    save(folder / "calm.safetensors", load(folder / "honesty.safetensors"))
    with pytest.raises(ArtefactError, match=r"calm\.safetensors: was changed since its pack was indexed"):
        read(folder, replace(CAREFUL, trust=key))


def test_artefacts_of_the_hub_are_pulled_once_and_served_if_the_trusted_key_signed_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, key = made.folder(tmp_path / "a"), new_key(tmp_path / "key.pem")
    write_pack(folder, tmp_path / "key.pem")
    monkeypatch.setenv("TILLERMAN_CACHE", str(tmp_path / "kept"))
    with hub_stand_in(monkeypatch, tmp_path / "cache") as hub:
        pushed([folder], "hf://org/vectors")
        options = ServeOptions("pilot", Path("hf://org/vectors"), None, None, None, None, False, False, trust=key)
        found = options.settings()
        own = options.folder_of(found)
        assert len(read(own, found.artefacts)) == 2 and own.is_relative_to(tmp_path / "kept")
        hub.asked.clear()
        assert options.folder_of(options.settings()) == own and not hub.asked
        stranger = replace(options, trust=new_key(tmp_path / "other.pem"))
        with pytest.raises(ArtefactError, match=r"pack\.json: is signed by ed25519:.* is trusted"):
            stranger.folder_of(stranger.settings())
        (tmp_path / "serve.toml").write_text('[artefacts]\nfolder = "hf://org/vectors"\n')
        of_file = replace(options, folder=None, config=tmp_path / "serve.toml", trust=None)
        assert len(read(of_file.folder_of(of_file.settings()))) == 2


def refuse(belongs: object) -> tuple[str, ...]:
    raise MismatchError("fitted on another model")


def test_one_bad_file_and_nothing_is_served(tmp_path: Path) -> None:
    folder = made.folder(tmp_path / "a")
    (folder / "torn.safetensors").write_bytes((folder / "calm.safetensors").read_bytes()[:-10])
    with pytest.raises(ArtefactError, match=r"1 of 3 artefacts cannot be served: .*torn"):
        read(folder)


@pytest.mark.parametrize(
    ("demands", "word"),
    [
        (Demands(refuse, made.ANY.problem), "another model"),
        (Demands(made.ANY.belongs, lambda plan: "no gates here"), "cannot serve it: no gates here"),
    ],
)
def test_what_model_and_engine_cannot_take_is_not_served(tmp_path: Path, demands: Demands, word: str) -> None:
    with pytest.raises(ArtefactError, match=word):
        read(made.folder(tmp_path), demands=demands)


@pytest.mark.slow
def test_what_the_engine_cannot_serve_is_left_out_and_named_if_asked(tmp_path: Path) -> None:
    path, skipping = made.folder(tmp_path / "a"), ArtefactSettings(skip_unservable=True)
    only = Demands(made.ANY.belongs, lambda plan: "no gates here" if plan[0].steering.points[0].layer else None)
    with pytest.raises(ArtefactError, match=r"calm.safetensors: .* no gates here; .* with --skip-unservable"):
        read_shelf(path, CAREFUL, only)
    shelf = read_shelf(path, skipping, only)
    assert (list(shelf.library), dict(shelf.left_out)) == (["honesty"], {"calm": "no gates here"})
    with pytest.raises(ArtefactError, match="2 of 2 artefacts cannot be served: calm: this engine cannot serve it"):
        read_shelf(path, skipping, Demands(made.ANY.belongs, lambda plan: "nothing here"))
    (path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(ArtefactError, match=r"1 of 3 .*torn"):
        read_shelf(path, skipping, only)
    (path / "torn.safetensors").unlink()
    prompts, engine = PromptReader(tiny.tokenizer(tiny.CHAT)), made.ScriptEngine()
    rules = make_rules(read_shelf(path, skipping, only), Settings(), prompts, engine)
    with pytest.raises(Refusal, match="calm: this engine cannot serve it: no gates here") as told:
        rules.ready(read_steering("honesty+calm@0.1") or ())
    assert told.value.code == "not_servable"


def test_without_a_measured_effect_nothing_is_served_unless_allowed(tmp_path: Path) -> None:
    bare = replace(made.artefact(), card=None)
    folder = made.folder(tmp_path, {"bare": bare})
    with pytest.raises(ArtefactError, match=r"no card with a measured effect.*--allow-unproven"):
        read(folder)
    with pytest.raises(ArtefactError, match="shows no effect"):
        read(folder, ArtefactSettings(require_card=False))
    assert read(folder, ArtefactSettings(require_card=False, require_effect=False))["bare"].card is None


def test_an_effect_whose_interval_holds_0_is_none(tmp_path: Path) -> None:
    one = made.artefact()
    assert one.card is not None
    report = json.loads(json.dumps(one.card.to_json()["report"]))
    for condition in report["conditions"]:
        if condition["name"] == "steered":
            condition["effect"].update(value=0.01, interval={"low": -0.05, "high": 0.07}, p_value=0.8)
    folder = made.folder(tmp_path, {"idle": replace(one, card=replace(one.card, report=report))})
    with pytest.raises(ArtefactError, match=r"idle.*shows no effect"):
        read(folder)


def test_a_pinned_digest_is_kept_to(tmp_path: Path) -> None:
    folder = made.folder(tmp_path)
    digest = hashlib.sha256((folder / "calm.safetensors").read_bytes()).hexdigest()
    assert read(folder, ArtefactSettings(sha256={"calm": digest}))
    save(folder / "calm.safetensors", made.artefact(1, strength=0.3, seed=2))
    with pytest.raises(ArtefactError, match=r"calm\.safetensors: its sha256 is .* pin"):
        read(folder, ArtefactSettings(sha256={"calm": digest}))
    with pytest.raises(ArtefactError, match="gone: pinned by sha256, and no file"):
        read(folder, ArtefactSettings(sha256={"gone": digest}))


def test_names_that_could_be_taken_for_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="letters, digits"):
        read(made.folder(tmp_path, {"a plan+b": made.artefact()}))


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    outside = made.folder(tmp_path / "outside")
    inside = made.folder(tmp_path / "inside", {"mine": made.artefact()})
    (inside / "theirs.safetensors").symlink_to(outside / "calm.safetensors")
    with pytest.raises(ArtefactError, match=r"theirs\.safetensors: a link out of the folder"):
        read(inside)


def test_no_folder_and_an_empty_one_say_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(ArtefactError, match="holds no artefact"):
        read(tmp_path)
