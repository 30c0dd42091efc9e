"""The 16-bit towers: what is kept, that it is used, and that a start does without where it has to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.hub.client import SILENT
from clipmod_cli.models.open_clip.source import OpenClipSource
from clipmod_cli.models.open_clip.towers import save_tower, tower_problems
from clipmod_cli.models.tower import layers, storage, tower_file
from tests.models.source_kit import folder_source
from tests.models.tower_kit import (
    both,
    kept,
    load,
    lost,
    path_of,
    pictures_for,
    save,
    see,
    trembling,
    without_file,
)

pytestmark = pytest.mark.usefixtures("own_cache")


@both
def test_scores_do_not_depend_on_the_file(source: OpenClipSource, dtype: str) -> None:
    without, first, second = see(without_file(source), dtype), see(source, dtype), see(source, dtype)
    assert path_of(source).exists()
    assert np.array_equal(without, first)
    assert np.array_equal(first, second)


def test_the_next_start_in_16_bit_does_not_read_the_weights(source: OpenClipSource, tmp_path: Path) -> None:
    first = see(source, "bfloat16")
    assert np.array_equal(see(lost(source, tmp_path), "bfloat16"), first)
    with pytest.raises(MissingModelError):
        see(lost(source, tmp_path), "float32")


def test_float32_has_the_weights_own_numbers_beside_a_16_bit_file(source: OpenClipSource) -> None:
    exact = see(without_file(source), "float32")
    save_tower(source, SILENT)
    assert not kept(source).info.lossless
    assert np.array_equal(see(source, "float32"), exact)
    assert not np.array_equal(see(source, "bfloat16"), exact)


def test_weights_that_float16_holds_serve_float32_too(tmp_path: Path) -> None:
    source = folder_source(save(tmp_path / "half", torch.Tensor.half))
    exact = see(without_file(source), "float32")
    see(source, "bfloat16")
    assert kept(source).info.lossless
    assert np.array_equal(see(lost(source, tmp_path), "float32"), exact)


def test_a_start_in_float32_keeps_a_description_and_one_in_16_bit_the_numbers(source: OpenClipSource) -> None:
    see(source, "float32")
    assert not kept(source).info.whole
    described = path_of(source).stat().st_size
    see(source, "bfloat16")
    assert kept(source).info.whole
    assert path_of(source).stat().st_size > described
    see(source, "float32")
    assert kept(source).info.whole


def test_a_warm_start_imports_no_open_clip(source: OpenClipSource, tmp_path: Path) -> None:
    see(source, "bfloat16")
    script = (
        "import sys; from pathlib import Path; from clipmod_cli.assemble import load_ensemble;"
        f"models = 'open_clip:local-dir:{source.weights.parent}';"
        "loaded = [load_ensemble(models, device='cpu', dtype=d) for d in ('bfloat16', 'float32')];"
        "print(len(loaded), 'open_clip' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["2", "False"], done.stderr


def test_it_is_a_safetensors_file(source: OpenClipSource) -> None:
    save_tower(source, SILENT)
    with safe_open(path_of(source), "pt") as file:
        assert json.loads(file.metadata()["clipmod_tower"])["revision"] == source.revision
        types = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118 - it is no dict
    assert types["blocks.0.up.weight"] == torch.float16
    assert types["projection"] == types["blocks.0.up.bias"] == torch.float32


def test_verify_tells_a_tower_that_its_weights_do_not_give(source: OpenClipSource) -> None:
    assert tower_problems(source) == []
    save_tower(source, SILENT)
    assert tower_problems(source) == []
    file = kept(source)
    state = file.state()
    assert state is not None
    changed = {name: tensor.clone() for name, tensor in state.items()}
    changed["blocks.0.up.weight"][0, 0] += 1
    tower_file.write(path_of(source), file.info, changed)
    (problem,) = tower_problems(source)
    assert "blocks.0.up.weight" in problem


def test_a_place_that_cannot_be_written_costs_time_only(
    source: OpenClipSource, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    right = see(without_file(source), "bfloat16")
    path_of(source).parent.parent.mkdir(parents=True)
    path_of(source).parent.write_text("a file where the folder has to be")
    assert np.array_equal(see(source, "bfloat16"), right)
    assert "cannot write" in caplog.text


def test_a_full_disk_costs_time_only(
    source: OpenClipSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage, "RESERVED_BYTES", 10**18)
    assert np.array_equal(see(source, "bfloat16"), see(without_file(source), "bfloat16"))
    assert "GB are free" in caplog.text
    assert list(path_of(source).parent.glob("*.safetensors*")) == []


def test_a_start_does_not_wait_for_who_writes(source: OpenClipSource) -> None:
    source.location.lock_path.parent.mkdir(parents=True)
    with FileLock(source.location.lock_path):
        right = see(source, "bfloat16")
    assert not path_of(source).exists()
    assert np.array_equal(see(source, "bfloat16"), right)
    assert path_of(source).exists()


def test_what_an_ended_process_left_goes(source: OpenClipSource) -> None:
    path_of(source).parent.mkdir(parents=True)
    left = path_of(source).parent / ".a.safetensors.1.tmp"
    left.write_bytes(b"half")
    save_tower(source, SILENT)
    assert not left.exists()


def test_towers_of_folders_are_bounded(tmp_path: Path) -> None:
    sources = [folder_source(save(tmp_path / str(i), trembling(i))) for i in range(4)]
    bounded = [replace(one, location=replace(one.location, max_towers=2)) for one in sources]
    for age, one in enumerate(bounded):
        see(one, "bfloat16")
        os.utime(path_of(one), (age, age))
        see(bounded[0], "bfloat16")  # used all the time, and so not the oldest
    assert [path_of(one).exists() for one in bounded] == [True, False, False, True]


MATRICES = st.floats(1e-12, 1e12).flatmap(
    lambda size: st.integers(0, 2**32 - 1).map(
        lambda seed: torch.randn(16, 8, generator=torch.Generator().manual_seed(seed)) * size
    )
)


@given(matrix=MATRICES)
def test_narrowing_keeps_the_digits_that_it_promises(matrix: torch.Tensor) -> None:
    short = tower_file.narrow("blocks.0.up.weight", matrix)
    error = float((short.float() - matrix).norm() / matrix.norm())
    assert error <= tower_file.MAX_ERRORS.get(short.dtype, 0)
    if 1e-2 < float(matrix.abs().max()) < 65000:
        assert short.dtype == torch.float16


@pytest.mark.parametrize(
    ("size", "dtype"), [(1.0, torch.float16), (1e6, torch.bfloat16), (1e-7, torch.bfloat16)]
)
def test_what_float16_cannot_hold_is_bfloat16(size: float, dtype: torch.dtype) -> None:
    matrix = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)) * size
    assert tower_file.narrow("blocks.0.up.weight", matrix).dtype == dtype
    assert tower_file.narrow("projection", matrix) is matrix


def _change_in_place(source: OpenClipSource) -> None:
    """Write other numbers into the kept file, without a new one in its place."""
    with path_of(source).open("r+b") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        size = path_of(source).stat().st_size - begin
        file.seek(begin)
        file.write(b"\x3f" * size)


@both
@pytest.mark.parametrize("packed", [True, False])
def test_a_loaded_tower_no_longer_hangs_on_its_file(
    tmp_path: Path, dtype: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packed:
        monkeypatch.setattr(layers, "can_pack", lambda: False)
    # bfloat16 holds these numbers and float16 does not: they are kept so, and read without converting.
    source = folder_source(save(tmp_path / "large", lambda t: (t.float() * 2.0**-30).bfloat16()))
    see(source, dtype)
    loaded = load(source, dtype)
    assert kept(source).info.lossless
    right = loaded._tower(pictures_for(loaded)).numpy()
    _change_in_place(source)
    assert np.array_equal(loaded._tower(pictures_for(loaded)).numpy(), right)
