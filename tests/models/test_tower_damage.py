"""Nothing but a tower's own whole file is ever used in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.client import SILENT
from clipmod_cli.models.open_clip.source import OpenClipSource
from clipmod_cli.models.open_clip.towers import save_tower, tower_problems
from clipmod_cli.models.tower import tower_file
from tests.models.source_kit import folder_source
from tests.models.tower_kit import both, kept, path_of, save, see, trembling

pytestmark = pytest.mark.usefixtures("own_cache")


def flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


def header_of(data: bytes | bytearray) -> int:
    return 8 + int.from_bytes(data[:8], "little")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[:-1000],
    "cut to its header": lambda data: data[: header_of(data)],
    "longer": lambda data: data + bytes(8),
    "empty": lambda _: b"",
    "not safetensors": lambda _: b"\x80\x04garbage" * 100,
    "a mean changed": lambda data: data.replace(b'mean\\": [0.', b'mean\\": [1.', 1),
    "a byte of the description": lambda data: flip(data, data.index(b"logit_scale") + 16),
    "a byte of the table": lambda data: flip(data, data.index(b"data_offsets") + 17),
    "a byte of a number": lambda data: flip(data, header_of(data) + 5001),
    "the last byte": lambda data: flip(data, len(data) - 1),
    "zeros where the disk lost a page": lambda data: data[:-4096] + bytes(4096),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_not_used_and_written_anew(
    source: OpenClipSource, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    right = see(source, "bfloat16")
    good = path_of(source).read_bytes()
    bad = DAMAGES[damage](good)
    assert bad != good
    path_of(source).write_bytes(bad)
    assert tower_problems(source)
    assert np.array_equal(see(source, "bfloat16"), right)
    assert "is not used" in caplog.text
    assert path_of(source).read_bytes() == good


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(shared: tuple[Path, Path, str], share: float, bit: int) -> None:
    good, bad, revision = shared
    data = bytearray(good.read_bytes())
    # half of them in the header, which is the smaller part
    place = int(share * 2 * header_of(data)) if share < 0.5 else int((share - 0.5) * 2 * len(data))
    data[place] ^= 1 << bit
    bad.write_bytes(data)
    file = tower_file.read(bad, revision)
    assert file is None or file.state() is None or padding(good.read_bytes(), place)


def padding(data: bytes, place: int) -> bool:
    """Return whether nothing is said at this place: a blank that only fills the header."""
    return data[place : header_of(data)].strip() == b"" and place < header_of(data)


@pytest.fixture
def shared(source: OpenClipSource, tmp_path: Path) -> tuple[Path, Path, str]:
    save_tower(source, SILENT)
    return path_of(source), tmp_path / "bad.safetensors", source.revision


def test_a_tower_of_other_weights_is_not_used(source: OpenClipSource, tmp_path: Path) -> None:
    other = folder_source(save(tmp_path / "other", trembling(2)))
    right, wrong = see(source, "bfloat16"), see(other, "bfloat16")
    assert not np.array_equal(right, wrong)
    path_of(source).write_bytes(path_of(other).read_bytes())
    assert np.array_equal(see(source, "bfloat16"), right)


def test_numbers_of_other_weights_under_this_description_are_not_used(
    source: OpenClipSource, tmp_path: Path
) -> None:
    other = folder_source(save(tmp_path / "other", trembling(2)))
    right = see(source, "bfloat16")
    see(other, "bfloat16")
    mine, theirs = path_of(source).read_bytes(), path_of(other).read_bytes()
    path_of(source).write_bytes(mine[: header_of(mine)] + theirs[header_of(theirs) :])
    assert np.array_equal(see(source, "bfloat16"), right)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_not_used(source: OpenClipSource, number: float) -> None:
    right = see(source, "bfloat16")
    file = kept(source)
    state = file.state()
    assert state is not None
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["blocks.0.up.weight"][0, 0] = number
    tower_file.write(path_of(source), file.info, changed)
    assert kept(source).state() is None
    assert np.array_equal(see(source, "bfloat16"), right)


@both
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, dtype: str) -> None:
    def spoil(tensor: torch.Tensor) -> torch.Tensor:
        changed = tensor.float().clone()
        changed.view(-1)[0] = float("nan")
        return changed

    source = folder_source(save(tmp_path / "nan", spoil))
    with pytest.raises(MissingModelError, match="not finite"):
        see(source, dtype)
    assert not list(tmp_path.rglob("*.v1.safetensors"))
