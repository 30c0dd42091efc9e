"""Every command with the base alone: with torch and the packages of all extras hidden."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest
from openai import OpenAI
from openai.types import ModerationImageURLInputParam

from clipmod_cli.errors import ExitCode
from clipmod_cli.install import EXTRAS, install_command
from tests.base.hidden import hiding
from tests.end_to_end.command import SAMPLES, Command, Outcome
from tests.end_to_end.conftest import clipmod
from tests.server.test_serving_process import form, running
from tests.urls.conftest import server
from tests.urls.server import Server, reply
from tests.video.films import scene, write_film

__all__ = ["clipmod", "server"]

PICTURES = ("astronaut.jpg", "cat.png", "coffee.webp", "astronaut-pan.gif")
LIGHT = ("--models", "open_nsfw", "--policy", "nsfw")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with real pictures and a film."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in PICTURES:
        shutil.copy(SAMPLES / name, folder)
    write_film(folder / "film.mp4", scene(5))
    return folder


def run(clipmod: Command, *words: str | Path) -> Outcome:
    """Run the command as a process, in which no extra is installed."""
    return clipmod.process(*words, env=hiding())


def test_pictures_and_films_are_judged(clipmod: Command, pictures: Path, tmp_path: Path) -> None:
    outcome = run(clipmod, "scan", pictures, *LIGHT, "--db", tmp_path / "runs.duckdb", "--json")
    assert outcome.code == 0, outcome.stderr
    records = outcome.records
    assert {Path(record["source"]).name for record in records} == {*PICTURES, "film.mp4"}
    assert {record["kind"] for record in records} == {"image", "animation", "video"}
    assert {record["final_decision"] for record in records} == {"Safe"}
    assert {tuple(record["models_used"]) for record in records} == {("open_nsfw",)}
    told = run(clipmod, "stats", "--db", tmp_path / "runs.duckdb", "--json")
    assert told.code == 0, told.stderr
    assert b"open_nsfw" in told.stdout


def test_exact_decoding_needs_nothing_more(clipmod: Command, pictures: Path) -> None:
    outcome = run(clipmod, "scan", pictures / "cat.png", *LIGHT, "--decode", "exact", "--no-db")
    assert outcome.code == 0, outcome.stderr
    assert [record["final_decision"] for record in outcome.records] == ["Safe"]


def test_urls_are_judged(clipmod: Command, server: Server, tmp_path: Path) -> None:
    url = server.on("/cat.png", reply(body=(SAMPLES / "cat.png").read_bytes()))
    links = tmp_path / "links.txt"
    links.write_text(f"{url}\n", encoding="utf-8")
    outcome = run(clipmod, "urls", links, *LIGHT, "--allow-private", "--no-db")
    assert outcome.code == 0, outcome.stderr
    assert [record["final_decision"] for record in outcome.records] == ["Safe"]


def test_the_service_answers(clipmod: Command) -> None:
    body, kind = form(SAMPLES / "cat.png")
    with running(clipmod, base=(*LIGHT, "--no-db", "--no-auth"), **hiding()) as service:
        status, answer = service.ask("POST", "/predict/single", body, Content_Type=kind)
        with OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key="none", max_retries=0) as client:
            encoded = base64.b64encode((SAMPLES / "cat.png").read_bytes()).decode()
            picture: ModerationImageURLInputParam = {
                "type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}
            }  # fmt: skip
            moderated = client.moderations.create(input=[picture])
    assert status == 200, answer
    assert json.loads(answer)["models_used"] == ["open_nsfw"]
    assert (moderated.model, moderated.results[0].flagged) == ("clipmod/open_nsfw", False)
    assert moderated.results[0].category_applied_input_types.sexual == ["image"]


@pytest.mark.parametrize(
    "words",
    [
        ("models", "list"),
        ("models", "verify", "open_nsfw"),
        ("policies", "list"),
        ("schema",),
        ("config", "show"),
        ("bench", *LIGHT[:2], "--pictures", "4", "--repeats", "1", "--size", "64x64", "--json"),
    ],
    ids=" ".join,
)
def test_other_commands_work(clipmod: Command, words: tuple[str, ...]) -> None:
    outcome = run(clipmod, *words)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("scan", "--models", "ensemble"), "clip"),
        (("scan", "--models", "fallback", "--device", "cuda"), "clip"),
        (("scan", *LIGHT, "--device", "cuda"), "clip"),
        (("scan", "--models", "open_clip:ViT-B-32/openai"), "clip"),
        (("scan", "--classes", "a cat, a dog"), "clip"),
        (("scan", "--models", "nudenet"), "nudenet"),
        (("scan", "--models", "hf:Falconsai/nsfw_image_detection"), "hf"),
        (("scan", *LIGHT, "s3://bucket/"), "stores"),
        (("bench", "--random-weights"), "clip"),
        (("serve", "--models", "ensemble", "--no-auth"), "clip"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_what_needs_an_extra_names_the_command_that_brings_it(
    clipmod: Command, words: tuple[str, ...], extra: str
) -> None:
    sources = [SAMPLES / "cat.png"] if words[0] == "scan" else []
    outcome = run(clipmod, *words, *sources)
    assert outcome.code == ExitCode.MISSING, outcome.stderr
    assert not outcome.stdout
    assert install_command(extra) in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_auto_passes_over_an_ensemble_that_cannot_run(clipmod: Command, pictures: Path) -> None:
    outcome = run(clipmod, "scan", pictures / "cat.png", "--policy", "general", "--no-db")
    assert outcome.code == ExitCode.MISSING
    assert install_command("clip") in outcome.stderr
    assert install_command("nudenet") not in outcome.stderr  # it cannot see this policy either


def test_a_heic_picture_is_an_error_that_names_the_command(clipmod: Command, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "picture.heic"
    heif.from_bytes("RGB", (64, 64), bytes(64 * 64 * 3)).save(path)
    outcome = run(clipmod, "scan", path, *LIGHT, "--no-db")
    assert outcome.code == ExitCode.NOTHING_JUDGED
    (record,) = outcome.records
    assert record["error"]["code"] == "unsupported_format"
    assert install_command("heic") in record["error"]["message"]


def test_doctor_tells_what_is_here_and_what_brings_the_rest(clipmod: Command) -> None:
    outcome = run(clipmod, "doctor", "--offline", "--json")
    assert outcome.code == 0, outcome.stderr
    checks = {(check["group"], check["name"]): check for check in json.loads(outcome.stdout)["checks"]}
    assert checks["models", "open_nsfw"]["state"] == "ok"
    for extra in EXTRAS:
        assert checks["extras", extra]["state"] == "note"
        assert checks["extras", extra]["mend"] == install_command(extra)
    for name, extra in (("nudenet", "nudenet"), ("ViT-L-14", "clip")):
        assert checks["models", name]["state"] == "note"
        assert checks["models", name]["mend"] == install_command(extra)
