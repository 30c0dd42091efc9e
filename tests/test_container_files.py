"""The container files keep their promises: no root, weights in a volume, two variants, known settings.

No container is built here. The instructions are read, and what is shell is run by a shell.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import tomllib
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parent.parent
VOLUMES: Final = {"/weights", "/data"}
# Variables that other programs read; clipmod itself has the CLIPMOD_ ones alone.
VARIABLES_OF_LIBRARIES: Final = {"HF_HOME", "HF_ENDPOINT", "HF_TOKEN", "NO_COLOR"}
SERVICES: Final = {"scan": "cpu", "scan-gpu": "gpu"}
INDEXES: Final = {"cpu": ["--index-url", "https://download.pytorch.org/whl/cpu"], "gpu": []}
every_service = pytest.mark.parametrize("service", sorted(SERVICES))


class Instruction(NamedTuple):
    name: str
    argument: str


def dockerfile() -> list[Instruction]:
    """The instructions, continued lines joined."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = text.replace("\\\n", " ").splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in joined if line.strip()]


def stage(name: str) -> list[Instruction]:
    """The instructions of one stage, its FROM first."""
    steps = dockerfile()
    starts = [i for i, step in enumerate(steps) if step.name == "FROM"] + [len(steps)]
    stages = [steps[a:b] for a, b in itertools.pairwise(starts)]
    return next(s for s in stages if s[0].argument.endswith(f" AS {name}"))


def arguments(steps: list[Instruction], name: str) -> list[str]:
    return [step.argument for step in steps if step.name == name]


def environment(steps: list[Instruction]) -> dict[str, str]:
    words = [word for argument in arguments(steps, "ENV") for word in shlex.split(argument)]
    return dict(word.split("=", 1) for word in words)


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def compose() -> dict[str, Any]:
    yaml: Any = import_module("yaml")
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return found


def mounts(service: str) -> dict[str, dict[str, Any]]:
    return {mount["target"]: mount for mount in compose()["services"][service]["volumes"]}


def test_the_last_stage_is_what_is_shipped_and_ends_as_a_user_without_rights() -> None:
    steps = dockerfile()
    final = stage("final")
    assert steps[-len(final) :] == final
    uid, gid = arguments(final, "USER")[-1].split(":")
    assert min(int(uid), int(gid)) > 0
    (made,) = arguments(final, "RUN")
    assert f"useradd --uid {uid} " in made
    assert f"groupadd --gid {gid} " in made
    last_user = max(i for i, step in enumerate(final) if step.name == "USER")
    assert not {step.name for step in final[last_user:]} & {"RUN", "COPY", "ADD"}


def test_weights_and_data_are_volumes_that_belong_to_the_user() -> None:
    final = stage("final")
    assert [set(json.loads(a)) for a in arguments(final, "VOLUME")] == [VOLUMES]
    (made,) = arguments(final, "RUN")
    owned = next(part for part in made.split("&&") if "--owner=clipmod" in part)
    assert set(owned.split()) >= VOLUMES
    names = [step.name for step in final]
    assert names.index("RUN") < names.index("VOLUME")


def test_everything_written_lands_in_a_volume() -> None:
    places = environment(stage("final"))
    assert places["HF_HOME"] == "/weights"
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        assert Path(places[name]).is_relative_to("/data"), name


def test_program_and_health_check_are_run_without_a_shell() -> None:
    final = stage("final")
    (script,) = project()["scripts"]
    assert [json.loads(a) for a in arguments(final, "ENTRYPOINT")] == [[script]]
    assert [json.loads(a) for a in arguments(final, "CMD")] == [["--help"]]
    (health,) = arguments(final, "HEALTHCHECK")
    assert json.loads(health.split("CMD", 1)[1]) == [script, "doctor", "--json", "--offline"]


def test_the_shipped_stage_takes_over_one_folder_and_installs_nothing() -> None:
    final = stage("final")
    assert arguments(final, "COPY") == ["--from=build /opt/clipmod /opt/clipmod"]
    assert not re.search(r"\b(apt-get|apk|pip|curl|wget|sudo)\b", " ".join(arguments(final, "RUN")))


def test_both_stages_have_one_base_that_names_its_version_and_suits_the_project() -> None:
    (base,) = (a.split("=", 1)[1] for a in arguments(dockerfile(), "ARG") if a.startswith("BASE="))
    assert {stage(name)[0].argument.split()[0] for name in ("build", "final")} == {"${BASE}"}
    version = re.fullmatch(r"python:3\.(\d+)-slim-\w+", base)
    assert version
    assert f"Programming Language :: Python :: 3.{version[1]}" in project()["classifiers"]


def pip_calls(tmp_path: Path, variant: str) -> subprocess.CompletedProcess[str]:
    """Runs the step that installs torch, with a pip that only says what it was asked."""
    (script,) = (run for run in arguments(stage("build"), "RUN") if run.startswith("case"))
    pip = tmp_path / "pip"
    pip.write_text('#!/bin/sh\necho "$@"\n')
    pip.chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "VARIANT": variant}
    return subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize("variant", sorted(INDEXES))
def test_a_variant_installs_the_projects_torch_from_its_own_index(tmp_path: Path, variant: str) -> None:
    wanted = [d for d in project()["dependencies"] if d.startswith(("torch>", "torchvision>"))]
    asked = pip_calls(tmp_path, variant)
    assert asked.returncode == 0
    assert asked.stdout.split() == ["install", *INDEXES[variant], *wanted]


def test_any_other_variant_stops_the_build(tmp_path: Path) -> None:
    asked = pip_calls(tmp_path, "tpu")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "'tpu'" in asked.stderr


def test_the_default_build_is_cpu_with_extras_that_the_project_has() -> None:
    defaults = dict(a.split("=", 1) for a in arguments(stage("build"), "ARG"))
    assert defaults["VARIANT"] == "cpu"
    assert set(defaults["EXTRAS"].split(",")) <= set(project()["optional-dependencies"])


def test_the_builder_is_sent_what_the_wheel_needs_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {word for a in arguments(stage("build"), "COPY") for word in a.split()[:-1]}
    assert sent == copied >= {"pyproject.toml", project()["readme"], *project()["license-files"]}
    assert all((ROOT / name).exists() for name in sent)


def test_compose_has_a_service_for_each_variant_and_the_gpu_only_on_request() -> None:
    services = compose()["services"]
    assert {name: s["build"]["args"]["VARIANT"] for name, s in services.items()} == SERVICES
    assert "profiles" not in services["scan"]
    assert services["scan-gpu"]["profiles"] == ["gpu"]
    (device,) = services["scan-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert services["scan"]["image"] != services["scan-gpu"]["image"]


@every_service
def test_a_service_scans_the_sample_pictures_which_it_cannot_change(service: str) -> None:
    pictures = mounts(service)["/pictures"]
    assert pictures["read_only"] is True
    assert pictures["bind"]["create_host_path"] is False
    default = re.fullmatch(r"\$\{PICTURES:-(.+)\}", pictures["source"])
    assert default
    assert (ROOT / default[1] / "astronaut.jpg").is_file()
    assert compose()["services"][service]["command"] == ["scan", "/pictures"]


@every_service
def test_a_services_other_mounts_are_the_images_volumes_by_name(service: str) -> None:
    others = {target: m for target, m in mounts(service).items() if target != "/pictures"}
    assert set(others) == VOLUMES
    assert {m["type"] for m in others.values()} == {"volume"}
    assert {m["source"] for m in others.values()} == set(compose()["volumes"])


@every_service
def test_a_service_holds_no_rights_it_does_not_need(service: str) -> None:
    found = compose()["services"][service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert [entry.split(":")[0] for entry in found["tmpfs"]] == ["/tmp"]  # noqa: S108 - inside the container
    assert not found.keys() & {"privileged", "ports", "network_mode", "cap_add", "user"}


@every_service
def test_an_env_file_is_optional_and_cannot_move_the_volumes(service: str) -> None:
    found = compose()["services"][service]
    assert found["env_file"] == [{"path": ".env", "required": False}]
    image = environment(stage("final"))
    assert found["environment"].keys() >= {"HF_HOME", "XDG_DATA_HOME"}
    assert all(image[name] == value for name, value in found["environment"].items())


def example_lines() -> list[str]:
    return (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()


def examples() -> dict[str, str]:
    found = (re.fullmatch(r"# ([A-Z][A-Z0-9_]*)=(.*)", line) for line in example_lines())
    return {match[1]: match[2] for match in found if match}


def test_the_example_is_all_comment_and_names_only_settings_that_exist() -> None:
    from clipmod_cli.settings import Settings

    assert all(not line or line.startswith("#") for line in example_lines())
    known = {f"CLIPMOD_{f.name.upper()}" for f in fields(Settings)}
    assert examples().keys() <= known | VARIABLES_OF_LIBRARIES
    assert {"CLIPMOD_MODELS", "CLIPMOD_POLICY", "CLIPMOD_DEVICE", "HF_HOME"} <= examples().keys()


def test_the_example_shows_values_that_are_accepted_and_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmod_cli.settings import Settings, resolve

    for name in [n for n in os.environ if n.startswith("CLIPMOD_")]:
        monkeypatch.delenv(name)
    empty = tmp_path / "config.toml"
    empty.touch()
    shown = {n.removeprefix("CLIPMOD_").lower(): v for n, v in examples().items() if n.startswith("CLIPMOD_")}
    for name, value in shown.items():
        monkeypatch.setenv(f"CLIPMOD_{name.upper()}", value)
    resolved = resolve({"config": str(empty)}).settings
    default = {f.name: f.default for f in fields(Settings)}
    changed = {name for name in shown if getattr(resolved, name) != default[name]}
    assert changed == {name for name in shown if default[name] is None}
