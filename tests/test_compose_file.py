"""The compose file and the example of its settings: keys from a secret, no rights, known settings."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import pytest

from tests.container import ROOT, VOLUMES, compose, environment, stage

# Variables that other programs read; clipmod itself has the CLIPMOD_ ones alone.
VARIABLES_OF_LIBRARIES: Final = {"HF_HOME", "HF_ENDPOINT", "HF_TOKEN", "NO_COLOR"}
# Variables that only the compose file itself reads.
VARIABLES_OF_COMPOSE: Final = {"PORT", "API_KEYS_FILE", "PICTURES"}
SCANS: Final = {"scan": "cpu", "scan-gpu": "gpu"}
SERVERS: Final = {"serve": "cpu", "serve-gpu": "gpu"}
SERVICES: Final = SCANS | SERVERS
every_service = pytest.mark.parametrize("service", sorted(SERVICES))
every_scan = pytest.mark.parametrize("service", sorted(SCANS))
every_server = pytest.mark.parametrize("service", sorted(SERVERS))


def mounts(service: str) -> dict[str, dict[str, Any]]:
    return {mount["target"]: mount for mount in compose()["services"][service]["volumes"]}


def test_compose_has_a_service_for_each_variant_and_the_gpu_only_on_request() -> None:
    services = compose()["services"]
    assert {name: s["build"]["args"]["VARIANT"] for name, s in services.items()} == SERVICES
    assert [name for name, s in services.items() if "profiles" not in s] == ["serve"]
    for name in ("scan-gpu", "serve-gpu"):
        assert services[name]["profiles"] == ["gpu"]
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
    for variant in ("cpu", "gpu"):
        same = {s["image"] for name, s in services.items() if SERVICES[name] == variant}
        assert same == {f"clipmod:{variant}"}


@every_scan
def test_a_service_scans_the_sample_pictures_which_it_cannot_change(service: str) -> None:
    pictures = mounts(service)["/pictures"]
    assert pictures["read_only"] is True
    assert pictures["bind"]["create_host_path"] is False
    default = re.fullmatch(r"\$\{PICTURES:-(.+)\}", pictures["source"])
    assert default
    assert (ROOT / default[1] / "astronaut.jpg").is_file()
    assert compose()["services"][service]["command"] == ["scan", "/pictures"]


@every_server
def test_the_service_reads_its_keys_from_a_secret_and_is_published_here_alone(service: str) -> None:
    found = compose()["services"][service]
    (secret,) = found["secrets"]
    assert found["environment"]["CLIPMOD_API_KEYS_FILE"] == f"/run/secrets/{secret}"
    assert "CLIPMOD_API_KEYS" not in found["environment"]
    default = re.fullmatch(r"\$\{API_KEYS_FILE:-\./(.+)\}", compose()["secrets"][secret]["file"])
    assert default
    assert default[1] in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert found["command"] == ["serve"]
    image = environment(stage("final"))
    assert [published.rpartition(":")[2] for published in found["ports"]] == [image["CLIPMOD_PORT"]]
    assert all(published.startswith("127.0.0.1:") for published in found["ports"])


@every_scan
def test_a_scan_answers_no_port_and_is_not_checked(service: str) -> None:
    found = compose()["services"][service]
    assert found["healthcheck"] == {"disable": True}
    assert not found.keys() & {"ports", "secrets"}


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
    assert not found.keys() & {"privileged", "network_mode", "cap_add", "user"}


@every_service
def test_an_env_file_is_optional_and_cannot_move_the_volumes(service: str) -> None:
    found = compose()["services"][service]
    assert found["env_file"] == [{"path": ".env", "required": False}]
    image = environment(stage("final"))
    assert found["environment"].keys() >= {"HF_HOME", "XDG_DATA_HOME"}
    assert all(image.get(name, value) == value for name, value in found["environment"].items())


def example_lines() -> list[str]:
    return (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()


def examples() -> dict[str, str]:
    found = (re.fullmatch(r"# ([A-Z][A-Z0-9_]*)=(.*)", line) for line in example_lines())
    return {match[1]: match[2] for match in found if match}


def test_the_example_is_all_comment_and_names_only_settings_that_exist() -> None:
    from clipmod_cli.settings.definition import Settings

    assert all(not line or line.startswith("#") for line in example_lines())
    known = {f"CLIPMOD_{f.name.upper()}" for f in fields(Settings)}
    assert examples().keys() <= known | VARIABLES_OF_LIBRARIES | VARIABLES_OF_COMPOSE
    assert {"CLIPMOD_MODELS", "CLIPMOD_POLICY", "CLIPMOD_DEVICE", "HF_HOME"} <= examples().keys()


def test_the_example_shows_values_that_are_accepted_and_are_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clipmod_cli.settings.definition import Settings
    from clipmod_cli.settings.reading import resolve

    for name in [n for n in os.environ if n.startswith("CLIPMOD_")]:
        monkeypatch.delenv(name)
    empty = tmp_path / "config.toml"
    empty.touch()
    shown = {n.removeprefix("CLIPMOD_").lower(): v for n, v in examples().items() if n.startswith("CLIPMOD_")}
    default = {f.name: f.default for f in fields(Settings)}
    changed = set()
    for name, value in shown.items():  # one at a time: some exclude each other
        with monkeypatch.context() as environment:
            environment.setenv(f"CLIPMOD_{name.upper()}", value)
            resolved = resolve({"config": str(empty)}).settings
        if getattr(resolved, name) != default[name]:
            changed.add(name)
    assert changed == {name for name in shown if default[name] is None}
