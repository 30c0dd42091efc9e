"""`clipmod tune` on drawn shapes: from records and labels to a policy that judges as promised."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from clipmod_cli.evaluate.label_files import read_labels
from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE, TINY_H, TINY_L, Command, Record, read_records
from tests.review.conftest import ended, started
from tests.tiny.shapes import CLASSES, picture_of

POSITIVES, NEGATIVES = 64, 90
JUDGING = ("--models", TINY_L, "--no-isolate", "--no-db")


def draw(folder: Path) -> Path:
    """Draw red circles into NSFW, some of them hard to tell, and other shapes into Safe."""
    for number in range(POSITIVES + NEGATIVES):
        red = number < POSITIVES
        others = [name for name in CLASSES if name != "red circle"]
        picture = picture_of("red circle" if red else others[number % len(others)], seed=number)
        if number % 3 == 0:
            other = picture_of("red square" if red else "red circle", seed=number + 1000)
            picture = Image.blend(picture, other.resize(picture.size), 0.35)
        path = folder / ("NSFW" if red else "Safe") / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return folder


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the labelled pictures and, beside them, records with their run card: made once."""
    import subprocess
    import sys

    root = tmp_path_factory.mktemp("tuned")
    draw(root / "pictures")
    words = ("scan", root / "pictures", "--policy", SHAPES, *JUDGING, "-o", root / "out.jsonl", "-q")
    command = [sys.executable, "-m", "clipmod_cli", *map(str, words)]
    subprocess.run(command, check=True, timeout=240, env={"HOME": str(root), "PATH": "/usr/bin:/bin"})
    return root


def records_of(path: Path) -> list[Record]:
    return read_records(path.read_bytes())


def tune(clipmod: Command, scanned: Path, output: Path, *words: str | Path) -> list[str]:
    """Run `clipmod tune` and return what it says on stdout, by lines."""
    done = clipmod("tune", scanned / "out.jsonl", "-o", output, *words)
    assert done.code == 0, done.stderr
    return done.stdout.decode().splitlines()


def test_a_recall_is_tuned_and_the_policy_judges_so(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.toml"
    said = tune(clipmod, scanned, tuned, "--labels", scanned / "pictures", "--recall", "0.95")
    records = records_of(scanned / "out.jsonl")
    least = min(one["unsafe_score"] for one in records if "/NSFW/" in one["source"])
    (promise,) = tomllib.loads(tuned.read_text(encoding="utf-8"))["tuned"]["promises"]
    assert promise["threshold"] == least, "64 positives allow no miss"
    assert (promise["positives"], promise["inputs"]) == (POSITIVES, POSITIVES + NEGATIVES)
    assert said[0].startswith("With 95 % confidence, at least 95 % of all NSFW inputs are flagged, from ")
    flagged = sum(one["unsafe_score"] >= least for one in records) / len(records)
    assert f"it flags {100 * flagged:.4g} % of all (before " in said[1]

    checked = clipmod("policies", "check", tuned)
    assert checked.code == 0, checked.stderr
    again = clipmod("scan", scanned / "pictures", "--policy", tuned, *JUDGING, "--json")
    assert again.code == 0, again.stderr
    for before, after in zip(records, again.records, strict=True):
        assert after["threshold"] == least
        assert after["unsafe_score"] == pytest.approx(before["unsafe_score"], abs=2e-6)
        assert after["policy_hash"] != before["policy_hash"]
        if abs(before["unsafe_score"] - least) > 1e-5:
            assert after["final_decision"] == ("NSFW" if before["unsafe_score"] >= least else "Safe")


def test_a_tuned_policy_is_refused_for_other_models_and_weights(
    clipmod: Command, scanned: Path, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned.toml"
    tune(clipmod, scanned, tuned, "--labels", scanned / "pictures", "--recall", "0.9")
    words = ("scan", scanned / "pictures", "--policy", tuned, "--no-isolate", "--no-db")
    for models in (TINY_H, TINY_ENSEMBLE):
        refused = clipmod(*words, "--models", models)
        assert refused.code == 2
        assert "promise nothing for these models: it was tuned for" in refused.stderr
        assert refused.stdout == b""
    text = tuned.read_text(encoding="utf-8")
    revision = tomllib.loads(text)["tuned"]["models"][0]["revision"]
    tuned.write_text(text.replace(revision, "0" * 64), encoding="utf-8")
    refused = clipmod(*words, "--models", TINY_L)
    assert refused.code == 2
    assert f"at 000000000000, not at {revision[:12]}" in refused.stderr


def test_a_sensitivity_beside_a_tuned_threshold_is_refused(
    clipmod: Command, scanned: Path, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned.toml"
    tune(clipmod, scanned, tuned, "--labels", scanned / "pictures", "--recall", "0.9")
    refused = clipmod("scan", scanned / "pictures", "--policy", tuned, *JUDGING, "--sensitivity", "high")
    assert refused.code == 2
    assert "--sensitivity high has no effect" in refused.stderr
    other = clipmod("scan", scanned / "pictures", "--policy", tuned, *JUDGING, "--threshold", "0.3", "--json")
    assert other.code == 0
    assert "--threshold takes the place of the tuned one, and shapes promises nothing" in other.stderr
    assert {one["threshold"] for one in other.records} == {0.3}


def test_each_category_has_its_own_threshold_and_decides_by_it(
    clipmod: Command, scanned: Path, tmp_path: Path
) -> None:
    tuned, labels = tmp_path / "tuned.toml", tmp_path / "map.toml"
    labels.write_text('NSFW = "red_circle"\n', encoding="utf-8")
    said = tune(
        clipmod, scanned, tuned,
        "--labels", scanned / "pictures", "--label-map", labels, "--recall", "0.95", "--per-category",
    )  # fmt: skip
    assert "at least 95 % of all red_circle inputs are flagged" in said[0]
    (promise,) = tomllib.loads(tuned.read_text(encoding="utf-8"))["tuned"]["promises"]
    assert promise["category"] == "red_circle"
    again = clipmod("scan", scanned / "pictures" / "NSFW", "--policy", tuned, *JUDGING, "--json").records
    for one in again:
        matched = one["category_scores"]["red_circle"] >= promise["threshold"]
        assert one["matched_categories"] == (["red_circle"] if matched else [])
        assert one["final_decision"] == "NSFW"


def test_a_precision_is_tuned(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.toml"
    said = tune(
        clipmod, scanned, tuned,
        "--labels", scanned / "pictures", "--precision", "0.3", "--prevalence", "20%",
    )  # fmt: skip
    assert "at least 30 % of what the unsafe score flags" in said[0]
    (promise,) = tomllib.loads(tuned.read_text(encoding="utf-8"))["tuned"]["promises"]
    assert (promise["rate"], promise["prevalence"]) == ("precision", 0.2)
    assert promise["bound"] >= 0.3


def test_a_budget_is_tuned_without_labels(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.toml"
    said = tune(clipmod, scanned, tuned, "--budget", "12,000/day", "--rate", "1000/hour")
    assert "at most 50 % of all inputs (12,000 of 24,000 a day) are flagged on average" in said[0]
    (promise,) = tomllib.loads(tuned.read_text(encoding="utf-8"))["tuned"]["promises"]
    assert (promise["rate"], promise["target"], promise["positives"]) == ("flagged", 0.5, 0)
    records = records_of(scanned / "out.jsonl")
    flagged = sum(one["unsafe_score"] >= promise["threshold"] for one in records)
    assert 0.3 < flagged / len(records) < 0.5


def test_records_of_a_tuned_policy_are_tuned_again(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    first, second, out = tmp_path / "a.toml", tmp_path / "b.toml", tmp_path / "out.jsonl"
    tune(clipmod, scanned, first, "--labels", scanned / "pictures", "--recall", "0.95")
    assert clipmod("scan", scanned / "pictures", "--policy", first, *JUDGING, "-o", out).code == 0
    done = clipmod("tune", out, "--labels", scanned / "pictures", "--recall", "0.95", "-o", second)
    assert done.code == 0, done.stderr
    one, other = (tomllib.loads(path.read_text(encoding="utf-8")) for path in (first, second))
    assert other["tuned"]["base_hash"] == one["tuned"]["base_hash"]
    assert other["tuned"]["promises"][0]["threshold"] == pytest.approx(
        one["tuned"]["promises"][0]["threshold"], abs=2e-6
    )
    assert other["tuned"]["labels_sha256"] == one["tuned"]["labels_sha256"]


def refused(clipmod: Command, scanned: Path, tmp_path: Path, *words: str | Path) -> str:
    """Return the message of a call that writes nothing."""
    done = clipmod("tune", scanned / "out.jsonl", "-o", tmp_path / "tuned.toml", *words)
    assert done.code == 2, done.stderr
    assert not (tmp_path / "tuned.toml").exists()
    assert done.stdout == b""
    return done.stderr


def reviewed(clipmod: Command, scanned: Path, folder: Path, most: int, *words: str) -> Path:
    """Return decisions that a person made on the records by `clipmod review`, at most so many."""
    for name in ("out.jsonl", "out.jsonl.run.json"):
        shutil.copy(scanned / name, folder)
    with (
        started(clipmod, folder, "--order", "severity", *words) as (process, link),
        httpx2.Client(base_url=link.partition("?")[0], follow_redirects=True) as client,
    ):
        client.get(link)
        for _ in range(most):
            item = client.get("/api/state").json()["item"]
            label = "unsafe" if int(Path(item["name"]).stem) < POSITIVES else "safe"
            assert client.post(
                "/api/decide", json={"id": item["id"], "label": label, "seconds": 1.0}
            ).is_success
        client.post("/api/finish", json={})
        assert ended(process) == 0
    return folder / "d.jsonl"


def test_decisions_that_were_all_drawn_are_all_used(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    decisions = reviewed(clipmod, scanned, tmp_path, 130, "--audit", "100%")
    assert len({row.weight for row in read_labels([str(decisions)])}) == 1
    done = clipmod(
        "tune", tmp_path / "out.jsonl", "--labels", decisions, "--recall", "0.9",
        "-o", tmp_path / "tuned.toml",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert "130 of 130 labels matched" in done.stderr
    assert "labelled inputs are used" not in done.stderr
    (promise,) = tomllib.loads((tmp_path / "tuned.toml").read_text(encoding="utf-8"))["tuned"]["promises"]
    assert promise["inputs"] == 130


def test_decisions_of_a_queue_and_a_draw_are_thinned(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    decisions = reviewed(clipmod, scanned, tmp_path, 70, "--audit", "40%", "--only", "nsfw,review,safe")
    weights = {round(row.weight or 0.0, 6) for row in read_labels([str(decisions)])}
    assert len(weights) == 2
    words = ("tune", tmp_path / "out.jsonl", "--labels", decisions, "-o", tmp_path / "tuned.toml")
    done = clipmod(*words, "--recall", "0.6")
    assert done.code == 0, done.stderr
    (used,) = re.findall(r"(\d+) of 70 labelled inputs are used", done.stderr)
    assert f"kept with chance {1 / max(weights):.4g} / p" in done.stderr
    (promise,) = tomllib.loads((tmp_path / "tuned.toml").read_text(encoding="utf-8"))["tuned"]["promises"]
    assert promise["inputs"] == int(used) < 70
    refused = clipmod(*words, "--recall", "0.99", "--overwrite")
    assert refused.code == 2
    assert f"{used} labelled inputs" in refused.stderr
    assert "among the labels used: decide on more that are drawn" in refused.stderr


def test_decisions_of_a_sorted_queue_alone_are_refused(
    clipmod: Command, scanned: Path, tmp_path: Path
) -> None:
    decisions = reviewed(clipmod, scanned, tmp_path, 40, "--audit", "0%")
    done = clipmod(
        "tune", tmp_path / "out.jsonl", "--labels", decisions, "--recall", "0.5",
        "-o", tmp_path / "tuned.toml",
    )  # fmt: skip
    assert done.code == 2
    assert "no decision was drawn at random, and 114 records have none" in done.stderr
    assert not (tmp_path / "tuned.toml").exists()


def test_too_few_positives_are_refused_with_what_is_missing_and_possible(
    clipmod: Command, scanned: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    names = [f"{scanned}/pictures/NSFW/{number:03}.png,NSFW" for number in range(58)]
    labels.write_text("\n".join(["source,label", *names]) + "\n", encoding="utf-8")
    told = refused(clipmod, scanned, tmp_path, "--labels", labels, "--recall", "0.95")
    assert "58 of them NSFW, are too few to promise with 95 % confidence that 95 %" in told
    assert "At least 1 more that are NSFW are needed. Can be promised: --recall 0.9496" in told
    instead = ("--labels", labels, "--recall", "0.9496")
    assert clipmod("tune", scanned / "out.jsonl", *instead, "-o", tmp_path / "less.toml").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--recall", "0.95"), "--recall, --precision and --calibrate need --labels"),
        ((), "give one of --recall, --precision and --budget"),
        (("--recall", "0.9", "--budget", "5/day"), "give one of"),
        (("--labels", "x.csv", "--precision", "0.5"), "--precision needs --prevalence"),
        (
            ("--labels", "x.csv", "--recall", "0.5", "--prevalence", "1%"),
            "goes with --precision or --calibrate",
        ),
        (("--labels", "x.csv", "--recall", "0.5", "--calibrate", "isotonic"), "--calibrate must be platt"),
        (("--labels", "x.csv", "--recall", "0.5", "--policy", "nsfw"), "--policy has no effect on records"),
        (
            ("--budget", "5/day", "--rate", "50/day", "--calibrate", "platt"),
            "so --calibrate would have no effect",
        ),
        (("--labels", "x.csv", "--recall", "0.5", "--rate", "5/day"), "--rate goes with --budget"),
        (("--budget", "5/day", "--rate", "5/day"), "nothing has to be tuned"),
        (("--budget", "5/day", "--rate", "50/fortnight"), "--rate must be a number by second, minute"),
        (
            ("--budget", "5/day", "--rate", "50/day", "--per-category"),
            "so --per-category would have no effect",
        ),
        (("--labels", "x.csv", "--recall", "1"), "--recall must be over 0 and under 1"),
        (("--labels", "none.csv", "--recall", "0.9"), "none.csv"),
    ],
)
def test_wrong_calls_are_refused(
    clipmod: Command, scanned: Path, tmp_path: Path, words: Sequence[str], told: str
) -> None:
    assert told in refused(clipmod, scanned, tmp_path, *words)


def test_what_is_no_records_and_no_evidence_is_refused(
    clipmod: Command, scanned: Path, tmp_path: Path
) -> None:
    for name in (tmp_path / "none.jsonl", scanned / "pictures"):
        words = ("--labels", scanned / "pictures", "--recall", "0.9", "-o", tmp_path / "tuned.toml")
        done = clipmod("tune", name, *words)
        assert done.code == 2
        assert f"{name} is neither records (.jsonl) nor a folder of `scan --evidence`" in done.stderr


def test_records_without_a_run_card_are_refused(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone.jsonl"
    lone.write_bytes((scanned / "out.jsonl").read_bytes())
    words = ("--labels", scanned / "pictures", "--recall", "0.9", "-o", tmp_path / "tuned.toml")
    done = clipmod("tune", lone, *words)
    assert done.code == 2
    assert "lone.jsonl has no run card" in done.stderr


def test_records_of_an_early_exit_are_refused(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    out = tmp_path / "early.jsonl"
    pictures = scanned / "pictures"
    words = ("--models", TINY_ENSEMBLE, "--no-isolate", "--no-db", "--coverage", "centre")
    assert clipmod("scan", pictures, "--policy", SHAPES, *words, "--early-exit", "exact", "-o", out).code == 0
    done = clipmod("tune", out, "--labels", pictures, "--recall", "0.9", "-o", tmp_path / "tuned.toml")
    assert done.code == 2
    assert "was not judged by all models" in done.stderr
    measured = clipmod("eval", out, "--labels", pictures)
    assert measured.code == 0
    assert "were not judged by all models" in measured.stderr
    whole = tmp_path / "whole.jsonl"
    assert clipmod("scan", pictures, "--policy", SHAPES, *words, "-o", whole).code == 0
    assert "not judged by all models" not in clipmod("eval", whole, "--labels", pictures).stderr


def test_records_of_an_end_at_the_first_hit_are_refused(
    clipmod: Command, scanned: Path, tmp_path: Path
) -> None:
    """A still of several views ends there too, and nothing in its record tells of it."""
    out, pictures = tmp_path / "early.jsonl", scanned / "pictures"
    words = ("scan", pictures, "--policy", SHAPES, *JUDGING, "--stop-on-hit", "-o", out)
    assert clipmod(*words).code == 0
    done = clipmod("tune", out, "--labels", pictures, "--recall", "0.9", "-o", tmp_path / "tuned.toml")
    assert done.code == 2
    assert "was judged with --stop-on-hit" in done.stderr


def test_an_existing_policy_is_kept(clipmod: Command, scanned: Path, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.toml"
    tuned.write_text("mine", encoding="utf-8")
    words = ("tune", scanned / "out.jsonl", "--labels", scanned / "pictures", "--recall", "0.9", "-o", tuned)
    assert clipmod(*words).code == 2
    assert tuned.read_text(encoding="utf-8") == "mine"
    assert clipmod(*words, "--overwrite").code == 0
    assert clipmod(*words[:-1], tmp_path / "tuned.txt").code == 2


def test_nothing_is_promised_without_the_packages(
    clipmod: Command, scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "scipy" else real(name, *more)
    )
    words = ("--labels", scanned / "pictures", "--recall", "0.9", "-o", tmp_path / "tuned.toml")
    done = clipmod("tune", scanned / "out.jsonl", *words)
    assert done.code == 4
    assert "[eval]" in done.stderr
