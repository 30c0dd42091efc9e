"""Which files make a model: as open_clip itself maps its tags, and never anything that runs."""

from __future__ import annotations

import open_clip
import pytest
import torch
from open_clip.pretrained import _get_safe_alternatives

from clipmod_cli.errors import SpecError
from clipmod_cli.models.backend import ModelSpec, human_size
from clipmod_cli.models.hub.sources import (
    OPEN_CLIP_BIN,
    TOKENIZER_FILES,
    HubSource,
    _open_clip_sources,
    hf_source,
)
from clipmod_cli.models.registry import known, known_models
from clipmod_cli.models.specs import ENSEMBLE, download_size, ensemble_size, parse_models, parse_spec

CODE = (".py", ".sh", ".so", ".pkl", ".msgpack", ".h5", ".ckpt")


def hub_sources(spec: ModelSpec) -> tuple[HubSource, ...]:
    return tuple(spec.backend.sources(spec))


def _ensemble() -> list[str]:
    members = parse_models([ENSEMBLE])
    assert members != "auto"
    return [member.spec.spec for member in members]


@pytest.mark.parametrize("text", _ensemble())
def test_the_ensemble_s_repositories_are_those_of_open_clip(text: str) -> None:
    spec = parse_spec(text)
    assert spec.arch
    assert spec.tag
    assert hub_sources(spec) == _open_clip_sources(spec.arch, spec.tag)


@pytest.mark.parametrize("text", _ensemble())
def test_the_sizes_shown_are_those_of_the_architectures(text: str) -> None:
    spec = parse_spec(text)
    with torch.device("meta"):
        model = open_clip.create_model(spec.arch, device="meta")
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    model_known = known(spec)
    assert model_known
    assert model_known.size == pytest.approx(size, rel=0.01)


def test_every_tag_of_open_clip_has_its_weights_on_the_hub() -> None:
    for arch, tag in open_clip.list_pretrained():
        repo, _, filename = open_clip.get_pretrained_cfg(arch, tag)["hf_hub"].rpartition("/")
        spec = parse_spec(f"open_clip:{arch}/{tag}")
        found = hub_sources(spec)
        filename = filename or OPEN_CLIP_BIN
        assert found[0].repo == repo
        assert found[0].required[0] == (*_get_safe_alternatives(filename), filename)


def test_an_architecture_with_a_vocabulary_brings_it() -> None:
    own, shared = (
        hub_sources(parse_spec(f"open_clip:{arch}/webli"))
        for arch in ("ViT-B-16-SigLIP", "ViT-B-16-SigLIP-256")
    )
    assert [source.repo for source in own] == ["timm/ViT-B-16-SigLIP"]
    assert [source.repo for source in shared] == ["timm/ViT-B-16-SigLIP-256", "timm/ViT-B-16-SigLIP"]
    there = {"open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json", "model.py"}
    assert own[0].select(there) == ("open_clip_model.safetensors", "tokenizer.json", "tokenizer_config.json")
    assert own[0].select(there - {"tokenizer.json"}) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("open_clip:ViT-L-41/openai", "ViT-L-14"),
        ("open_clip:vit-l-14/openai", "ViT-L-14"),
        ("open_clip:ViT-L-14/laion2b", "laion2b_s32b_b82k"),
        ("open_clip:nothing-like-it/openai", "no weights for an architecture 'nothing-like-it'"),
    ],
)
def test_what_open_clip_does_not_know_is_refused_with_what_it_does(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        hub_sources(parse_spec(text))


def test_nothing_that_runs_is_ever_wanted() -> None:
    everything = [hf_source("o/n"), *(s for text in _ensemble() for s in hub_sources(parse_spec(text)))]
    for source in everything:
        wanted = [name for group in source.required for name in group] + list(source.optional)
        assert not [name for name in (*wanted, *TOKENIZER_FILES) if name.endswith(CODE)]


def test_a_source_takes_the_first_of_each_group_and_what_is_welcome() -> None:
    source = HubSource(repo="o/n", required=(("a", "b"), ("c",)), optional=("d", "e"))
    assert source.select({"a", "b", "c", "e", "x"}) == ("a", "c", "e")
    assert source.select({"b", "c"}) == ("b", "c")
    assert source.select({"a", "b", "d"}) is None


def test_sizes_are_told_as_people_read_them() -> None:
    assert [human_size(n) for n in (None, 0, 999, 1000, 12_200_000, 343 * 10**6, int(1.71e9))] == [
        "-", "0 B", "999 B", "1 kB", "12.2 MB", "343 MB", "1.71 GB",
    ]  # fmt: skip
    assert human_size(ensemble_size()) == "11.1 GB"
    members = parse_models(["nudenet,hf:LukeJacob2023/nsfw-image-detector"])
    assert members != "auto"
    assert download_size(members) is None


def test_every_known_model_is_a_spec_and_says_its_licence() -> None:
    assert [parse_spec(model.spec).spec for model in known_models()] == [
        model.spec for model in known_models()
    ]
    licences = {model.spec: model.licence for model in known_models()}
    assert licences["nudenet"] == "AGPL-3.0 (metadata: MIT)"
    assert all(licences.values())
