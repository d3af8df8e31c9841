"""Artefacts go to a hub and come back by an address, pinned to the commit that was found; without a network the cache
serves, or the error says what helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import yaml
from hypothesis import given, settings, strategies as st
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, FileError, UsageError
from tillerman.core.packs import write_pack
from tillerman.core.places import FilePlace, HubPlace, place_of, shown_place
from tillerman.core.provenance import Card
from tillerman.core.signatures import new_key
from tillerman.exchange.sharing import pulled, pushed
from tillerman.reports.model_card import public_name

from .. import tiny
from ..hub import HubStandIn, hub_stand_in
from ..reports.example_log import example_log


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with hub_stand_in(monkeypatch, tmp_path / "cache") as running:
        yield running


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return written(tmp_path / "mine.safetensors", 1)


def written(path: Path, *layers: int) -> Path:
    vector = tiny.vector(*layers)
    tillerman.save(path, Artefact(vector, Cell.of(vector, 0.5)))
    return path


def test_an_artefact_goes_out_and_comes_back_with_the_commit_in_its_provenance(hub, mine, tmp_path):
    pinned = pushed([mine], "hf://org/mine", license_name="apache-2.0")
    commit = hub.repos["org/mine"][-1][0]
    assert pinned == f"hf://org/mine@{commit}"
    back = tillerman.load("hf://org/mine")
    assert back.cell == tillerman.load(mine).cell
    assert back.steering.provenance.origin == f"hf://org/mine@{commit}/mine.safetensors"
    origin, (file,) = pulled("hf://org/mine", tmp_path / "back.safetensors")
    assert origin == tillerman.load(file).steering.provenance.origin == f"hf://org/mine@{commit}/mine.safetensors"


def test_a_revision_stays_what_it_was_when_the_repository_goes_on(hub, mine, tmp_path):
    first = pushed([mine], "hf://org/mine")
    other = written(mine, 2)
    assert pushed([other], "hf://org/mine") != first
    assert [p.layer for p in tillerman.load(first).steering.points] == [1]
    assert [p.layer for p in tillerman.load("hf://org/mine").steering.points] == [2]
    with pytest.raises(FileError, match="no branch, tag or commit of this name"):
        tillerman.load("hf://org/mine@v9")


def test_of_several_files_one_is_named(hub, mine, tmp_path):
    pushed([mine, written(tmp_path / "other.safetensors", 2)], "hf://org/two")
    with pytest.raises(
        FileError, match=r"2 files \(mine\.safetensors, other\.safetensors\); name one, as hf://org/two/"
    ):
        tillerman.load("hf://org/two")
    assert [p.layer for p in tillerman.load("hf://org/two/other.safetensors").steering.points] == [2]
    with pytest.raises(FileError, match=r"hf://org/two/third\.safetensors: the repository has no such file"):
        tillerman.load("hf://org/two/third.safetensors")
    _, files = pulled("hf://org/two", tmp_path / "folder")
    assert [path.name for path in files] == ["README.md", "mine.safetensors", "other.safetensors"]
    assert files[1].read_bytes() == mine.read_bytes()


@pytest.mark.slow
def test_without_a_network_the_cache_serves_and_else_the_error_says_what_helps(hub, mine, monkeypatch):
    pushed([mine], "hf://org/mine")
    online = tillerman.load("hf://org/mine").steering.provenance.origin
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    assert tillerman.load("hf://org/mine").steering.provenance.origin == online
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert tillerman.load("hf://org/mine").steering.provenance.origin == online
    for name in ("hf://org/never", "hf://org/mine/never.safetensors"):
        with pytest.raises(FileError, match=r"cannot be reached.*HF_HUB_OFFLINE.*HF_ENDPOINT=URL.*file:///FOLDER"):
            tillerman.load(name)
    with pytest.raises(FileError, match="cannot be reached"):
        pushed([mine], "hf://org/mine")


def test_one_file_of_a_pack_is_held_against_its_index_and_who_signed_that(hub, mine, tmp_path):
    """Of a file that is fetched alone the index comes along, from the same commit."""
    key, other = new_key(tmp_path / "key.pem"), new_key(tmp_path / "other.pem")
    folder = tmp_path / "pack"
    folder.mkdir()
    for layer, name in enumerate("ab", start=1):
        written(folder / f"{name}.safetensors", layer)
    write_pack(folder, tmp_path / "key.pem")
    signed = pushed([folder], "hf://org/pack").rpartition("@")[2]
    assert tillerman.load(f"hf://org/pack@{signed}/a.safetensors", trust=key).steering.points[0].layer == 1
    with pytest.raises(ArtefactError, match=r"pack\.json: is signed by ed25519:.* is trusted"):
        tillerman.load(f"hf://org/pack@{signed}/a.safetensors", trust=other)
    with pytest.raises(ArtefactError, match="is not in a pack, so nobody signed it"):
        tillerman.load(str(pushed([mine], "hf://org/mine")), trust=key)
    hub.commit("org/pack", {"a.safetensors": mine.read_bytes() + b"x"})
    with pytest.raises(ArtefactError, match=r"a\.safetensors: was changed since its pack was indexed"):
        tillerman.load("hf://org/pack/a.safetensors")


def test_what_the_hub_refuses_is_told_with_the_remedy(hub, mine, monkeypatch):
    with pytest.raises(FileError, match=r"hf://org/none: there is no such repository, or you may not.*hf auth login"):
        tillerman.load("hf://org/none")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(FileError, match=r"hf auth login.*HF_TOKEN"):
        pushed([mine], "hf://org/mine")


def test_the_card_has_a_header_that_the_hub_reads_and_no_folder_of_the_makers(hub, tmp_path, science):
    pushed([science], "hf://org/science", license_name="apache-2.0")
    card = hub.repos["org/science"][-1][1]["README.md"].decode()
    _, header, body = card.split("---\n", 2)
    read = yaml.safe_load(header)
    assert read["library_name"] == "tillerman" and read["license"] == "apache-2.0" and "base_model" not in read
    assert "hf://org/science" in body and "steered" in body and "/home/me" not in card and "fitted on mine" in body
    for folder in ("/home/me/models/mine", r"C:\models\mine", "/mine/", "./mine", "../mine"):
        assert public_name(folder) == "mine"
    assert public_name("org/name") == "org/name"


@pytest.fixture
def science(tmp_path: Path) -> Path:
    """An artefact with a card."""
    vector, card = tiny.vector(1), Card(report=example_log().for_card())
    made = replace(vector, provenance=replace(vector.provenance, model_id="/home/me/models/mine"))
    tillerman.save(tmp_path / "science.safetensors", Artefact(made, Cell.of(made, 0.5), None, card))
    return tmp_path / "science.safetensors"


def test_a_file_mirror_takes_and_gives_and_a_digest_pins(mine, tmp_path):
    place = f"file://{tmp_path}/mirror"
    assert pushed([mine], place) == place
    back = tillerman.load(place)
    origin = back.steering.provenance.origin
    assert origin.startswith(f"file://{tmp_path}/mirror/mine.safetensors@sha256:")
    assert tillerman.load(origin).steering.provenance.origin == origin
    written(tmp_path / "mirror" / "mine.safetensors", 2)
    with pytest.raises(FileError, match=r"its sha256 is .*was asked for"):
        tillerman.load(origin)
    with pytest.raises(FileError, match="no such file or folder"):
        tillerman.load(f"file://{tmp_path}/nowhere")


def test_commands_take_an_address_where_they_take_a_file(hub, mine, tmp_path):
    run = CliRunner()
    done = run.invoke(app, ["push", str(mine), "hf://org/mine", "--private"])
    assert done.exit_code == 0 and done.stdout.startswith("hf://org/mine@"), done.output
    shown = run.invoke(app, ["show", "hf://org/mine"], env={"COLUMNS": "300"})
    assert shown.stdout.startswith("hf://org/mine: ") and "from hf://org/mine@" in shown.stdout
    pulled_ = run.invoke(app, ["pull", done.stdout.strip(), "--out", str(tmp_path / "a.safetensors")])
    assert pulled_.exit_code == 0 and (tmp_path / "a.safetensors").is_file(), pulled_.output
    gone = run.invoke(app, ["export", "torch", "hf://org/mine", "--out", str(tmp_path / "v.pt")])
    assert gone.exit_code == 0 and (tmp_path / "v.pt").is_file(), gone.output
    with pytest.raises(UsageError, match="name the artefacts, and at last where to"):
        run.invoke(app, ["push", "hf://org/mine"], catch_exceptions=False)
    with pytest.raises(UsageError, match="'tillerman push' puts it on the hub"):
        tillerman.save("hf://org/mine", tillerman.load(mine))


def test_a_plan_names_an_artefact_of_the_hub_in_quotes(hub, mine):
    pinned = pushed([mine], "hf://org/mine")
    opened = tiny.opened("llama")
    (one,), _ = tillerman.open_plan(f'"{pinned}"@0.3', opened, allow_mismatch=True)
    assert one.steering.provenance.origin.startswith(pinned)


@settings(max_examples=40)
@given(
    st.from_regex(r"[A-Za-z0-9_][\w.-]{0,8}/[\w-]{1,8}", fullmatch=True),
    st.none() | st.from_regex(r"[\w.-]{1,8}", fullmatch=True) | st.just("refs/pr/3"),
    st.lists(st.from_regex(r"[\w-]{1,6}", fullmatch=True), max_size=3).map("/".join),
)
def test_an_address_is_read_as_it_is_written_also_as_a_path(repo, revision, path):
    place = HubPlace(repo, revision, path)
    if repo.partition("/")[0] not in ("datasets", "spaces", "buckets"):
        assert place_of(str(place)) == place == place_of(Path(str(place)))
        assert shown_place(Path(str(place))) == str(place)


@pytest.mark.parametrize(
    "name", ["hf://name", "hf://", "hf://datasets/org/name", "hf://org/name/../../x", "hf:///org/name", "file:/"]
)
def test_an_address_that_is_none_is_refused_by_name(name):
    with pytest.raises(UsageError, match="expected"):
        found = place_of(name)
        assert isinstance(found, FilePlace) and str(found.path) == "/"
        raise UsageError("expected: the root is a folder")


def test_an_ordinary_path_is_no_address():
    for name in ("a/b.safetensors", "/x/y", "hf/x", "file.pt", "C:\\x", "hf:x"):
        assert place_of(name) is None and shown_place(name) == name
