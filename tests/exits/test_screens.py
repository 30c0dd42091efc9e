"""What `--screen` may name, and what it is called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import SettingsError, SpecError
from clipmod_cli.judge.choice import choose_screens
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.models.backend import LoadContext, TorchContext
from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.specs import parse_spec
from clipmod_cli.types import Evidence, Frame, Seen
from tests.colour_models import RedClassifier, frame_of
from tests.end_to_end.command import SHAPES, TINY_L, Command
from tests.exits.test_command import RISK, colours, records_of, toys, words
from tests.exits.toys import MODELS, draw
from tests.measuring import infer

__all__ = ["toys", "words"]

L, OTHER_L = "open_clip:ViT-L-14/laion2b_s32b_b82k", "open_clip:ViT-L-14/openai"


def names_of(text: str, *members: str) -> tuple[str, ...]:
    choice = choose_screens(text, members, load_policy("nsfw"))
    return () if choice is None else choice.names


def test_a_screen_is_never_called_as_a_member_is() -> None:
    """Evidence and limits are kept by name: those of one model would take the place of another's."""
    assert names_of(OTHER_L, L) == (OTHER_L,)
    assert names_of(f"{OTHER_L}, open_nsfw", L) == (OTHER_L, "open_nsfw")
    assert names_of("none", L) == ()


def test_a_member_is_no_screen(caplog: pytest.LogCaptureFixture) -> None:
    assert names_of(f"open_nsfw,{L}", L, "nudenet") == ("open_nsfw",)
    assert "is a member" in caplog.text
    assert names_of(L, L) == ()


@pytest.mark.parametrize(
    "text",
    [
        "open_nsfw=0.5",
        "open_nsfw,",
        "",
        "ensemble",
        "none,open_nsfw",
        "auto,open_nsfw",
        "open_nsfw,open_nsfw",
    ],
)
def test_what_names_no_models_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        names_of(text, L)


def test_auto_leaves_room_for_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    light = ["open_nsfw", "nudenet", "owen-s"]
    monkeypatch.setattr("clipmod_cli.judge.choice.light_models", lambda _policy, _hub: light)
    int8 = L.replace("open_clip", "open_clip_int8", 1)
    choice = choose_screens("auto", [L], load_policy("nsfw"), int8=[int8])
    assert choice is not None
    assert [one.spec.spec for one in choice.members] == ["open_nsfw", "nudenet", int8]


def test_too_many_are_refused() -> None:
    with pytest.raises(SettingsError, match="3 at most"):
        names_of(f"open_nsfw,nudenet,owen-s,{OTHER_L}", L)


def test_auto_goes_on_with_the_screens_that_an_output_was_written_with(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a model that was downloaded between two nights would end the output."""
    alone: list[Any] = ["sees-red-and-blue" if word == MODELS else word for word in words]
    draw(tmp_path / "pictures", colours(5))
    monkeypatch.setattr("clipmod_cli.judge.choice.light_models", lambda _policy, _hub: ["sees-red"])
    assert clipmod(*alone, *RISK, "--screen", "auto").code == 0
    card = json.loads((tmp_path / "out.jsonl.run.json").read_bytes())
    assert '"screens": ["sees-red"]' in json.dumps(card)
    monkeypatch.setattr("clipmod_cli.judge.choice.light_models", lambda _policy, _hub: [])
    draw(tmp_path / "pictures", ["green"] * 5, start=5)
    done = clipmod(*alone, *RISK, "--screen", "auto")
    assert done.code == 0, done.stderr
    assert len(records_of(tmp_path / "out.jsonl")) == 10
    other = clipmod(*alone, *RISK)
    assert other.code == 2
    assert "--screen sees-red, now not" not in other.stderr
    assert "--screen sees-red" in other.stderr


def test_auto_takes_the_first_member_in_8_bits_where_bfloat16_is_slow(
    clipmod: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipmod_cli.judge.choice.light_models", lambda _policy, _hub: [])
    draw(tmp_path / "pictures", ["red", "green"])
    options: list[Any] = [
        "scan",
        tmp_path / "pictures",
        "--policy",
        SHAPES,
        "--models",
        TINY_L,
        "--no-db",
        "--no-cache",
    ]
    options += [*RISK, "--screen", "auto", "-o"]
    int8 = TINY_L.replace("open_clip", "open_clip_int8", 1)
    for dtype, screens in (("float32", [int8]), ("bfloat16", [])):
        out = tmp_path / f"{dtype}.jsonl"
        assert clipmod(*options, out, "--dtype", dtype).code == 0
        card = json.loads(out.with_name(f"{out.name}.run.json").read_bytes())
        assert json.dumps({"screens": screens})[1:-1] in json.dumps(card)
    (first, *_) = records_of(tmp_path / "float32.jsonl")
    assert first["models_used"] == ["tiny-l"], "a screen has no part in the scores"


def test_8_bits_are_for_a_cpu() -> None:
    spec = parse_spec("open_clip_int8:ViT-L-14/laion2b-s32b-b82k")
    assert spec.spec == "open_clip_int8:ViT-L-14/laion2b_s32b_b82k"
    assert spec.identity != parse_spec(L).identity
    on_torch = TorchContext(placement=Placement(torch.device("meta"), torch.float16), crops=CropBatches())
    context = LoadContext(device="meta", fetch=lambda _: pytest.fail("nothing is loaded"), torch=on_torch)
    with pytest.raises(SettingsError, match="on a CPU only"):
        spec.backend.load(spec, "int8", context)


def test_it_is_told_where_no_picture_can_exit(
    clipmod: Command, tmp_path: Path, words: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "pictures", colours(3))
    monkeypatch.setattr("clipmod_cli.judge.choice.light_models", lambda _policy, _hub: [])
    alone: list[Any] = ["sees-red-and-blue" if word == MODELS else word for word in words]
    done = clipmod(*alone, *RISK, "--screen", "auto")
    assert done.code == 0
    assert "--early-exit calibrated has no effect" in done.stderr


def test_a_screen_sees_stills_alone_and_after_one_that_fails_none_exits() -> None:
    def film(number: int) -> Frame:
        frame = frame_of(0.0, number)
        return replace(frame, media=replace(frame.media, kind="video"))

    def exits(frames: Sequence[Frame], _seen: Mapping[str, Sequence[Seen]]) -> NDArray[np.bool_]:
        return np.array([frame.media.kind == "image" for frame in frames])

    def fail(_frames: Sequence[Frame]) -> None:
        raise RuntimeError("no")

    members = [RedClassifier(name="a"), RedClassifier(name="b")]
    screen, failing = RedClassifier(name="screen"), RedClassifier(name="failing", before=fail)
    ensemble = Ensemble(
        members=[Member(model, 0.5) for model in members], screens=[failing, screen], batch_size=8
    )
    frames = [film(0), frame_of(0.0, 1), film(2), frame_of(0.1, 3)]
    seen = list(infer(ensemble, [frames], exits))
    assert [model.calls for model in (failing, screen, *members)] == [[2], [2], [2], [2]]
    assert [one.skipped for one in seen if isinstance(one, Evidence)] == [(), ("a", "b"), (), ("a", "b")]
