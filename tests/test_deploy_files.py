"""The files in `deploy/` for the service agree with the image, with its settings and with each other."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.settings.definition import Settings, flag_of
from clipmod_cli.settings.reading import resolve
from tests.container import ROOT, VOLUMES, arguments, environment, stage

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "clipmod-serve.service"
ENV_FILE = DEPLOY / "systemd" / "serve.env"
NGINX = (DEPLOY / "nginx" / "clipmod.conf").read_text(encoding="utf-8")
DEFAULTS = Settings()


def manifests() -> dict[str, Any]:
    """The objects of the manifest, by kind."""
    yaml: Any = import_module("yaml")
    found = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "clipmod.yaml").read_text(encoding="utf-8")))
    by_kind = {one["kind"]: one for one in found}
    assert len(by_kind) == len(found)
    return by_kind


def pod() -> Any:
    return manifests()["Deployment"]["spec"]["template"]["spec"]


def container() -> Any:
    (one,) = pod()["containers"]
    return one


def resolved(variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of these variables, each of which must be one."""
    known = {f"CLIPMOD_{one.name.upper()}" for one in fields(Settings)}
    assert {name for name in variables if name.startswith("CLIPMOD_")} <= known
    for name in known:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    empty = tmp_path / "config.toml"
    empty.touch()
    return resolve({"config": str(empty)}).settings


def pod_variables() -> dict[str, str]:
    data: dict[str, str] = manifests()["ConfigMap"]["data"]
    assert all(isinstance(value, str) for value in data.values())
    return {**data, **{one["name"]: one["value"] for one in container()["env"]}}


def test_the_pods_settings_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = resolved(pod_variables(), tmp_path, monkeypatch)
    assert (settings.policy, settings.models, settings.offline) == ("nsfw", ("open_nsfw", "nudenet"), True)
    assert settings.no_hosting
    assert settings.no_predictions
    assert container()["args"] == ["serve"]


def test_the_pod_reads_its_keys_from_a_secret_that_is_mounted_as_a_folder() -> None:
    file = Path(pod_variables()["CLIPMOD_API_KEYS_FILE"])
    (mount,) = [one for one in container()["volumeMounts"] if one["mountPath"] == str(file.parent)]
    assert "subPath" not in mount
    (volume,) = [one for one in pod()["volumes"] if one["name"] == mount["name"]]
    text = (DEPLOY / "kubernetes" / "clipmod.yaml").read_text(encoding="utf-8")
    assert f"kubectl create secret generic {volume['secret']['secretName']} --from-file={file.name}" in text
    assert "api-keys.txt" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_probes_and_ports_are_the_services() -> None:
    from clipmod_cli.server.operations.endpoints import router

    paths = {getattr(route, "path", "") for route in router.routes}
    probes = {name: one["httpGet"] for name, one in container().items() if name.endswith("Probe")}
    assert {name: one["path"] for name, one in probes.items()} == {
        "startupProbe": "/readyz",
        "readinessProbe": "/readyz",
        "livenessProbe": "/healthz",
    }
    assert {one["path"] for one in probes.values()} <= paths
    (port,) = container()["ports"]
    assert {one["port"] for one in probes.values()} == {port["name"]}
    assert str(port["containerPort"]) == environment(stage("final"))["CLIPMOD_PORT"] == str(DEFAULTS.port)
    (published,) = manifests()["Service"]["spec"]["ports"]
    assert (published["targetPort"], published["port"]) == (port["name"], DEFAULTS.port)


def test_the_supervisors_wait_longer_than_the_service_takes_to_end() -> None:
    command = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    assert pod()["terminationGracePeriodSeconds"] >= int(command[1]) + DEFAULTS.grace + 10
    assert int(value_of("TimeoutStopSec")) >= DEFAULTS.grace + 10
    seconds = re.search(r"proxy_read_timeout (\d+)s", NGINX)
    assert seconds
    assert int(seconds[1]) > DEFAULTS.deadline


def test_the_pod_has_no_rights_and_writes_to_its_volumes_alone() -> None:
    held = container()["securityContext"]
    assert held == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = pod()["securityContext"]
    assert user["runAsNonRoot"] is True
    assert user["seccompProfile"] == {"type": "RuntimeDefault"}
    assert arguments(stage("final"), "USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    assert pod()["automountServiceAccountToken"] is False
    writable = {one["mountPath"] for one in container()["volumeMounts"] if not one.get("readOnly")}
    assert writable == VOLUMES | {"/tmp"}  # noqa: S108 - inside the container


def test_all_objects_select_the_same_pods() -> None:
    found = manifests()
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert found["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def value_of(key: str) -> str:
    lines = UNIT.read_text(encoding="utf-8").splitlines()
    (value,) = [line.partition("=")[2] for line in lines if line.partition("=")[0] == key]
    return value


def test_the_unit_starts_the_service_where_nginx_asks_for_it() -> None:
    program, command, *options = shlex.split(value_of("ExecStart"))
    assert (program, command) == ("/usr/local/bin/clipmod", "serve")
    assert dict(zip(options[::2], options[1::2], strict=True)) == {
        flag_of("host"): DEFAULTS.host,
        flag_of("port"): str(DEFAULTS.port),
    }
    assert f"server {DEFAULTS.host}:{DEFAULTS.port};" in NGINX


def test_the_units_settings_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ENV_FILE.read_text(encoding="utf-8").splitlines()
    variables = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings = resolved(variables, tmp_path, monkeypatch)
    assert settings.policy == "nsfw"
    assert settings.forwarded_allow_ips == (DEFAULTS.host,)
    name = re.search(r"server_name (\S+);", NGINX)
    assert name
    assert settings.public_url == f"https://{name[1]}"
    guide = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    (keys,) = re.findall(
        r"^Environment=CLIPMOD_API_KEYS_FILE=(\S+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert f"sudo install -m 640 -g {value_of('User')} /dev/stdin {keys}\n" in guide


def test_nginx_takes_what_the_service_takes() -> None:
    most = re.search(r"client_max_body_size (\d+)m;", NGINX)
    assert most
    assert int(most[1]) > max(DEFAULTS.max_stream_mb, DEFAULTS.max_multi_mb, DEFAULTS.max_video_mb)
    for line in ("proxy_request_buffering off", "proxy_buffering off", "X-Forwarded-For $remote_addr"):
        assert line in NGINX


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/usr/local/bin/clipmod", "/bin/true"))
    run = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")


def test_the_guide_names_what_exists() -> None:
    guide = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    metrics = (ROOT / "clipmod_cli" / "server" / "operations" / "metrics.py").read_text(encoding="utf-8")
    written = set(re.findall(r'"(clipmod_\w+)"', metrics))
    named = {re.sub(r"_(total|bucket|count|sum)$", "", one) for one in re.findall(r"clipmod_\w+", guide)}
    assert len(named) >= 6
    assert named <= written
    flags = {flag_of(one.name) for one in fields(Settings)}
    known = flags | {"--from-file", "--now", "--system", "--home-dir"}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", guide)) <= known
    variables = {f"CLIPMOD_{one.name.upper()}" for one in fields(Settings)}
    assert set(re.findall(r"CLIPMOD_\w+", guide)) <= variables
