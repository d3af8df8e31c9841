"""Autoencoders by their usual names: each is read from the repository, the folder and the hook point that are meant."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.registry import method
from tillerman.models.sae.files import open_sae
from tillerman.models.sae.labels import read_labels
from tillerman.models.sae.releases import named_sae, releases

from .. import sae_files as made
from ..hub import HubStandIn, hub_stand_in


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with hub_stand_in(monkeypatch, tmp_path / "cache") as running:
        yield running


def publish(hub: HubStandIn, repo: str, path: str, folder: Path) -> str:
    files = {f"{path}/{p.relative_to(folder).as_posix()}".lstrip("/"): p.read_bytes() for p in folder.rglob("*.*")}
    return hub.commit(repo, files)


@pytest.mark.parametrize(
    ("name", "repo", "path", "form", "point"),
    [
        ("gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical", "google/gemma-scope-2b-pt-res",
         "layer_20/width_16k/average_l0_71", "gemmascope", HookPoint(20)),
        ("gemma-scope-2b-pt-att/layer_3/width_16k/average_l0_68", "google/gemma-scope-2b-pt-att",
         "layer_3/width_16k/average_l0_68", "gemmascope", HookPoint(3, "heads")),
        ("gemma-scope-9b-pt-mlp-canonical/layer_5/width_16k/canonical", "google/gemma-scope-9b-pt-mlp",
         None, "gemmascope", HookPoint(5, "mlp_out")),
        ("gemma-scope-2-270m-it-res-all/layer_9_width_16k_l0_big", "google/gemma-scope-2-270m-it",
         "resid_post_all/layer_9_width_16k_l0_big", "gemmascope2", HookPoint(9)),
        ("llama_scope_lxr_8x/l1r_8x", "fnlp/Llama3_1-8B-Base-LXR-8x",
         "Llama3_1-8B-Base-L1R-8x", "llamascope", HookPoint(1)),
        ("gpt2-small-res-jb/blocks.8.hook_resid_pre", "jbloom/GPT2-Small-SAEs-Reformatted",
         "blocks.8.hook_resid_pre", "saelens", HookPoint(8, "resid_pre")),
        ("qwen-scope-3-8b-base-w64k-l50/layer7", "Qwen/SAE-Res-Qwen3-8B-Base-W64K-L0_50", "layer7.sae.pt",
         "qwenscope", HookPoint(7)),
    ],
)  # fmt: skip
def test_a_usual_name_is_the_autoencoder_of_its_repository(hub, tmp_path, name, repo, path, form, point):
    found = named_sae(name)
    assert found is not None and found.place.repo == repo and path in (None, found.place.path)
    path = found.place.path
    folder = tmp_path / "files"
    if form == "gemmascope":
        made.gemmascope(folder)
    elif form == "gemmascope2":
        made.gemmascope2(folder)
    elif form == "llamascope":
        where = "blocks.1.hook_resid_post"
        made.llamascope(folder, (1.0, 1.0), 0.5, hook_point_in=where, hook_point_out=where)
    elif form == "saelens":
        made.saelens(folder, made.v6(metadata={"hook_name": "blocks.8.hook_resid_pre"}))
    else:
        folder, path = made.qwenscope(folder, layer=7, active=50), ""
    commit = publish(hub, repo, path, folder)
    hub.commit(repo, {"other/params.npz": b"of another", "other/cfg.json": b"{}"})
    sae = open_sae(name)
    assert sae.point == point and sae.atoms == 3
    assert sae.name.startswith(f"hf://{repo}@") and commit != sae.name.split("@")[1][:40]
    fetched = {asked.partition("/resolve/")[2] for asked in hub.asked if "/resolve/" in asked and "GET" in asked}
    assert not any("other/" in one for one in fetched)


def test_a_repository_of_many_is_not_fetched_and_the_error_names_folders_of_it(hub, tmp_path):
    for layer in (1, 2):
        publish(hub, "org/saes", f"layer_{layer}", made.saelens(tmp_path / str(layer), made.v6()))
    with pytest.raises(DataError, match=r"2 autoencoders lie there; name the folder of one: hf://org/saes/layer_1, "):
        open_sae("hf://org/saes")
    assert not [asked for asked in hub.asked if "safetensors" in asked]
    assert open_sae("hf://org/saes/layer_2").name.endswith("/layer_2")
    assert open_sae("hf://org/saes/layer_2/sae_weights.safetensors").name.endswith("/layer_2")
    with pytest.raises(DataError, match="no autoencoder there"):
        open_sae("hf://org/saes/layer_3")
    publish(hub, "Qwen/Tiny-L0_3", "", made.qwenscope(tmp_path / "q", 1))
    publish(hub, "Qwen/Tiny-L0_3", "", made.qwenscope(tmp_path / "q", 2))
    with pytest.raises(DataError, match=r"2 autoencoders, one per layer; name one, e\.g\. hf://Qwen/Tiny-L0_3/layer1"):
        open_sae("hf://Qwen/Tiny-L0_3")


def test_a_method_takes_an_address_and_a_release():
    for source in ("hf://org/saes@v1/layer_2", "gpt2-small-res-jb/blocks.8.hook_resid_pre"):
        assert method(f"sta:sae={source},share=0.2").sae == source


def test_a_wrong_name_says_which_there_are():
    with pytest.raises(DataError, match=r"the release llama_scope_lxr_8x has l0r_8x, .*write llama_scope_lxr_8x/NAME"):
        open_sae("llama_scope_lxr_8x/l99r")
    with pytest.raises(DataError, match=r"no such file.*releases of nearly this name: .*gemma-scope-2b-pt-res"):
        open_sae("gemma-scope-2b-pt-ress/layer_1")


def test_every_release_of_the_table_is_whole():
    for name, release in releases().items():
        example = next(iter(release.paths), release.example)
        found = named_sae(f"{name}/{example}")
        assert found is not None and found.place.repo.count("/") == 1 and found.place.path
        assert release.format != "gemmascope" or found.at is not None


@pytest.mark.parametrize("form", ["lines", "gzip", "explanations", "one"])
def test_labels_as_neuronpedia_exports_them_are_read(tmp_path, form):
    rows = [
        {
            "modelId": "gemma-2-2b",
            "layer": "20-gemmascope-res-16k",
            "index": "1",
            "description": " sports",
            "typeName": "",
        },
        {"modelId": "gemma-2-2b", "layer": "20-gemmascope-res-16k", "index": "1", "description": "another explanation"},
        {"modelId": "gemma-2-2b", "layer": "20-gemmascope-res-16k", "index": "2", "description": ""},
    ]
    lines = "\n".join(map(json.dumps, rows)).encode()
    content = {
        "lines": lines,
        "gzip": gzip.compress(lines),
        "explanations": json.dumps({"explanations": rows}).encode(),
        "one": json.dumps(rows).encode(),
    }[form]
    file = tmp_path / ("batch-0.jsonl.gz" if form == "gzip" else "labels.json")
    file.write_bytes(content)
    assert read_labels(file, 3) == {1: "sports"}
    file.write_bytes(content[:-20])
    with pytest.raises(DataError, match="no labels of atoms"):
        read_labels(file, 3)
