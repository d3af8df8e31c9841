"""A pack is refused by the name of the file that is not as indexed, and by whose signature it has."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.core.artefact import Artefact
from tillerman.core.cell import Cell
from tillerman.core.errors import ArtefactError, UsageError
from tillerman.core.files import sha256_of
from tillerman.core.packs import INDEX, SIGNATURE, check_pack, write_pack
from tillerman.core.signatures import is_signed, new_key, public_key, signed
from tillerman.exchange.sharing import pulled, pushed

from .. import tiny


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "folder"
    found.mkdir()
    for layer, name in enumerate("ab"):
        write(found / f"{name}.safetensors", layer)
    (found / "notes.txt").write_text("of both")
    return found


def write(path: Path, layer: int) -> None:
    vector = tiny.vector(layer)
    tillerman.save(path, Artefact(vector, Cell.of(vector)))


def test_a_signed_pack_is_read_by_those_who_trust_its_key(folder, tmp_path):
    key = new_key(tmp_path / "key.pem")
    pack = write_pack(folder, tmp_path / "key.pem")
    assert pack.key == key and set(pack.files) == {"a.safetensors", "b.safetensors", "notes.txt"}
    assert check_pack(folder, key) == pack == check_pack(folder)
    (tmp_path / "key.pub").write_text(key + "\n")
    assert check_pack(folder, str(tmp_path / "key.pub")) == pack
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="exists; a key is not written over"):
        new_key(tmp_path / "key.pem")


@pytest.mark.parametrize("name", ["a.safetensors", "notes.txt"])
def test_a_changed_file_is_refused_by_name(folder, tmp_path, name):
    new_key(tmp_path / "key.pem")
    write_pack(folder, tmp_path / "key.pem")
    if name.endswith(".txt"):
        (folder / name).write_text("of neither")
    else:
        write(folder / name, 2)
        with pytest.raises(ArtefactError, match=rf"{name}: was changed since its pack was indexed.*tillerman pack"):
            tillerman.load(folder / name)
    assert tillerman.load(folder / "b.safetensors").steering.points[0].layer == 1
    with pytest.raises(ArtefactError, match=rf"{name}: was changed since its pack was indexed"):
        check_pack(folder)
    with pytest.raises(ArtefactError, match=name):
        pulled(f"file://{folder}", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_artefact_that_was_put_beside_or_taken_away_is_named(folder):
    write_pack(folder)
    write(folder / "c.safetensors", 2)
    for asked in (lambda: check_pack(folder), lambda: tillerman.load(folder / "c.safetensors")):
        with pytest.raises(ArtefactError, match=r"c\.safetensors: is not in the index of its pack"):
            asked()
    (folder / "c.safetensors").unlink()
    (folder / "a.safetensors").unlink()
    with pytest.raises(ArtefactError, match=r"a\.safetensors: is in the index of its pack, and not there"):
        check_pack(folder)


def test_an_index_that_somebody_else_signed_or_nobody_is_refused_where_a_key_is_trusted(folder, tmp_path):
    mine, theirs = new_key(tmp_path / "mine.pem"), new_key(tmp_path / "theirs.pem")
    write_pack(folder, tmp_path / "theirs.pem")
    with pytest.raises(
        ArtefactError, match=f"pack.json: is signed by {re.escape(theirs)}, and {re.escape(mine)} is trusted"
    ):
        check_pack(folder, mine)
    write_pack(folder)
    assert not (folder / SIGNATURE).exists()
    with pytest.raises(ArtefactError, match=r"pack\.json: is not signed, and ed25519"):
        check_pack(folder, mine)


def test_an_index_that_was_changed_after_signing_is_refused_whoever_is_trusted(folder, tmp_path):
    new_key(tmp_path / "key.pem")
    write_pack(folder, tmp_path / "key.pem")
    write(folder / "a.safetensors", 2)
    found = json.loads((folder / INDEX).read_text())
    found["files"]["a.safetensors"] = sha256_of(folder / "a.safetensors")
    (folder / INDEX).write_text(json.dumps(found))
    with pytest.raises(ArtefactError, match=r"pack\.json: was changed since it was signed by ed25519"):
        check_pack(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {"../x": "0"}}', '{"files": [1]}'])
def test_a_damaged_index_is_an_error_of_ours(folder, content):
    (folder / INDEX).write_text(content)
    with pytest.raises(ArtefactError, match=r"pack\.json: (is damaged|no index of a pack)"):
        check_pack(folder)


def test_signatures_are_of_this_content_and_this_key(tmp_path):
    mine, theirs = new_key(tmp_path / "mine.pem"), new_key(tmp_path / "theirs.pem")
    key, signature = signed(b"content", tmp_path / "mine.pem")
    assert key == mine and is_signed(b"content", signature, mine)
    for content, given, by in ((b"Content", signature, mine), (b"content", signature, theirs), (b"content", "?", mine)):
        assert not is_signed(content, given, by)
    for text in ("ed25519:", "ed25519:AAAA", "rsa:x", str(tmp_path / "mine.pem")):
        with pytest.raises(UsageError, match="expected a public key, ed25519:BASE64"):
            public_key(text)
    (tmp_path / "no.pem").write_text("no key")
    with pytest.raises(UsageError, match="no private key without a password"):
        signed(b"content", tmp_path / "no.pem")


def test_a_pack_goes_out_whole_and_comes_back_checked(folder, tmp_path):
    key = new_key(tmp_path / "key.pem")
    write_pack(folder, tmp_path / "key.pem")
    mirror = f"file://{tmp_path}/mirror"
    pushed([folder], mirror)
    _, files = pulled(mirror, tmp_path / "back", key)
    assert {path.name for path in files} == {
        "a.safetensors",
        "b.safetensors",
        INDEX,
        SIGNATURE,
        "README.md",
        "notes.txt",
    }
    assert check_pack(tmp_path / "back", key).key == key
    pulled(f"{mirror}/a.safetensors", tmp_path / "a.safetensors", key)
    with pytest.raises(ArtefactError, match="is not in a pack, so nobody signed it"):
        tillerman.load(tmp_path / "a.safetensors", trust=key)


def test_the_command_indexes_signs_and_checks(folder, tmp_path):
    run = CliRunner()
    done = run.invoke(app, ["pack", str(folder), "--sign", str(tmp_path / "key.pem"), "--new-key"])
    assert done.exit_code == 0 and "3 files indexed, signed by ed25519:" in done.stdout, done.output
    key = done.stdout.split()[-1]
    again = run.invoke(app, ["pack", str(folder), "--check", "--trust", key])
    assert again.exit_code == 0 and "3 files as indexed" in again.stdout, again.output
    for wrong in (["--check", "--sign", "x"], ["--trust", key], ["--new-key"]):
        assert isinstance(run.invoke(app, ["pack", str(folder), *wrong]).exception, UsageError)
