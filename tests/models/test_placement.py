"""Which device and precision a name gives, and what a placement says of batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from clipmod_cli.assemble import load_ensemble
from clipmod_cli.errors import SettingsError
from clipmod_cli.models.device.device import Placement, batch_for, place
from clipmod_cli.models.tower.model import ModuleTower
from clipmod_cli.types import LabelScores
from tests.models import backends
from tests.models.vision_kit import CPU, MEAN, STD, apart, crops, module


@pytest.mark.parametrize(
    ("gigabytes", "pictures"),
    [(8, 64), (15.7, 64), (23.6, 64), (32, 128), (47.5, 192), (79.2, 256), (139, 256)],
)
def test_a_batch_grows_with_the_devices_memory(gigabytes: float, pictures: int) -> None:
    assert batch_for(int(gigabytes * (1 << 30))) == pictures


def test_a_cpu_computes_in_one_precision_without_a_check() -> None:
    placement = place("cpu", "auto")
    assert placement.candidates == (placement.dtype,)
    assert placement.devices == (CPU,)
    assert placement.batch_size == 8


def test_a_placement_tells_what_was_taken_in_the_end() -> None:
    asked = Placement(CPU, torch.bfloat16, (torch.float16, torch.bfloat16))
    taken = asked.with_dtype(torch.float16)
    assert (taken.dtype_name, taken.candidates) == ("float16", (torch.float16,))
    assert replace(asked, checked=()).candidates == (torch.bfloat16,)


@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_a_device_that_is_here_is_taken(name: str) -> None:
    assert place(name, "auto").device.type in {"cpu", "cuda", "mps"}


NO_DEVICES = [
    "cpu:",
    "cpu:0",
    "cpu:3",
    "cuda:",
    "cuda:\N{SUPERSCRIPT TWO}",
    "cuda:01",
    "mps:0",
    "CPU",
    "",
    "xpu",
]


@pytest.mark.parametrize("name", NO_DEVICES)
def test_what_names_no_device_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="--device must be auto, cpu, cuda"):
        place(name, "auto")
    with pytest.raises(SettingsError, match="--device must be auto, cpu, cuda"):
        load_ensemble("nudenet", device=name)


@pytest.mark.parametrize("name", ["cuda:9999", "cuda:99999", "cuda:200"])
def test_a_device_that_is_not_here_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="--device"):
        place(name, "auto")


def test_bfloat16_is_asked_of_the_devices_that_were_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    # An old card beside a new one, as no test machine has them: the driver's answers are given.
    majors = {0: 9, 1: 7}

    def describe(device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(major=majors[device.index or 0])

    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(majors))
    monkeypatch.setattr(torch.cuda, "get_device_properties", describe)
    assert place("cuda:0", "auto").candidates == (torch.float16, torch.bfloat16, torch.float32)
    assert place("cuda:1", "auto").candidates == (torch.float16, torch.float32)
    assert place("cuda:1", "auto").dtype == torch.float16
    assert place("cuda", "auto").candidates == (torch.float16, torch.float32)  # both have to be able to


@pytest.mark.parametrize(
    ("devices", "count", "share"), [(1, 9, 9), (2, 9, 5), (3, 512, 171), (4, 2, 1), (2, 0, 1)]
)
def test_a_model_on_one_device_is_given_its_share_at_once(devices: int, count: int, share: int) -> None:
    assert Placement(CPU, torch.float32, more=(CPU,) * (devices - 1)).share_of(count) == share


def test_a_module_looks_at_a_share_at_a_time() -> None:
    visual = module(attentional_pool=True)
    sizes: list[int] = []
    visual.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    settings = {"mean": MEAN, "std": STD}
    alone = ModuleTower(visual, settings, Placement(CPU, torch.float32))(crops(5))
    two = ModuleTower(visual, settings, Placement(CPU, torch.float32, more=(CPU,)))(crops(5))
    assert sizes == [5, 3, 2]
    assert apart(alone, two) <= 1e-6


def test_a_classifier_looks_at_a_share_at_a_time(random_vit: Path, pictures: list[Path]) -> None:
    alone = backends.load_vit(random_vit)
    two = replace(alone, placement=replace(alone.placement, more=(CPU,)))
    sizes: list[int] = []
    alone._model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    frames = backends.look(alone, pictures[:3])
    for one, other in zip(alone.submit(frames)().seen, two.submit(frames)().seen, strict=True):
        assert isinstance(one, LabelScores)
        assert isinstance(other, LabelScores)
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
    assert sizes == [3, 2, 1]
