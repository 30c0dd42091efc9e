"""The Kubernetes job of `deploy/` for a scan by many pods agrees with the image and the settings."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.errors import ExitCode
from clipmod_cli.settings.definition import Settings
from tests.container import ROOT, VOLUMES, arguments, stage

FILE = ROOT / "deploy" / "kubernetes" / "scan-job.yaml"


def manifests() -> dict[str, Any]:
    yaml: Any = import_module("yaml")
    return {one["kind"]: one for one in yaml.safe_load_all(FILE.read_text(encoding="utf-8"))}


def pod() -> Any:
    return manifests()["Job"]["spec"]["template"]["spec"]


def container() -> Any:
    (one,) = pod()["containers"]
    return one


def test_the_settings_exist_and_there_are_as_many_shards_as_pods() -> None:
    data = manifests()["ConfigMap"]["data"]
    known = {f"CLIPMOD_{one.name.upper()}" for one in fields(Settings)}
    assert {name for name in data if name.startswith("CLIPMOD_")} <= known
    assert data["CLIPMOD_SHARD"] == f"/{manifests()['Job']['spec']['completions']}"
    assert data["CLIPMOD_OUTPUT"].endswith("/")
    assert not any("KEY" in name or "SECRET" in name for name in data)


def test_pods_have_no_rights_but_those_of_their_role_and_open_no_port() -> None:
    held = container()["securityContext"]
    assert (held["allowPrivilegeEscalation"], held["readOnlyRootFilesystem"]) == (False, True)
    assert held["capabilities"] == {"drop": ["ALL"]}
    user = pod()["securityContext"]
    assert arguments(stage("final"), "USER") == [f"{user['runAsUser']}:{user['runAsGroup']}"]
    assert pod()["serviceAccountName"] == manifests()["ServiceAccount"]["metadata"]["name"]
    assert manifests()["ServiceAccount"]["automountServiceAccountToken"] is False
    writable = {one["mountPath"] for one in container()["volumeMounts"]}
    assert writable == VOLUMES | {"/tmp"}  # noqa: S108 - inside the container
    assert "ports" not in container()
    policy = manifests()["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy
    labels = manifests()["Job"]["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"] == labels


def test_what_would_fail_again_ends_the_job() -> None:
    rules = manifests()["Job"]["spec"]["podFailurePolicy"]["rules"]
    (ending,) = [rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob"]
    assert ending["containerName"] == container()["name"]
    assert ending["values"] == sorted([ExitCode.USAGE, ExitCode.MISSING])
    assert {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]} in rules
    assert pod()["restartPolicy"] == "Never"  # a policy of failures needs it


def started(tmp_path: Path, body: str) -> subprocess.Popen[str]:
    """Start the container's command with a program in the place of clipmod."""
    program = tmp_path / "clipmod"
    program.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SOURCE": "s3://a b/"}
    return subprocess.Popen(container()["command"], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (3, 0), (1, 1), (2, 2), (5, 5), (137, 137)])
def test_the_command_ends_as_clipmod_does_but_for_inputs_that_failed(
    tmp_path: Path, code: int, ends: int
) -> None:
    run = started(tmp_path, f'echo "$@"; exit {code}')
    printed, _ = run.communicate(timeout=30)
    assert (printed, run.returncode) == ("scan s3://a b/\n", ends)


def test_the_command_passes_sigterm_on_and_waits(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    body = f"trap 'sleep 0.3; echo finished; exit 143' TERM; touch {ready}; while :; do sleep 0.05; done"
    with started(tmp_path, body) as run:
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        printed, _ = run.communicate(timeout=30)
    assert (printed, run.returncode) == ("finished\n", 143)
