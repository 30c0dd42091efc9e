"""The Dockerfile keeps its promises: no root, weights in a volume, three variants, the service by default.

No container is built here. The instructions are read, and what is shell is run by a shell.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar, Final

import pytest

from clipmod_cli.install import IMAGE_MARK
from tests.container import ROOT, VOLUMES, arguments, dockerfile, environment, project, stage

INDEXES: Final = {"cpu": ["--index-url", "https://download.pytorch.org/whl/cpu"], "gpu": []}


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
    assert [json.loads(a) for a in arguments(final, "CMD")] == [["serve"]]


def test_the_service_listens_at_all_addresses_of_the_container_and_its_port_is_named() -> None:
    final = stage("final")
    places = environment(final)
    assert ip_address(places["CLIPMOD_HOST"]).is_unspecified
    assert arguments(final, "EXPOSE") == [places["CLIPMOD_PORT"]]


def test_without_a_key_the_containers_command_does_not_start(tmp_path: Path) -> None:
    ended = _clipmod(tmp_path, "serve")
    assert ended.returncode == 2
    assert "--no-auth" in ended.stderr


def _clipmod(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command with the image's own settings, and nothing of this machine's."""
    told = {n: v for n, v in environment(stage("final")).items() if n.startswith("CLIPMOD_")}
    env = {"PATH": os.environ["PATH"], "HOME": str(home), **told}
    argv = [sys.executable, "-m", "clipmod_cli", *words]
    return subprocess.run(argv, env=env, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_health_check_asks_whether_the_service_lives() -> None:
    (health,) = arguments(stage("final"), "HEALTHCHECK")
    program, *words = json.loads(health.split("CMD", 1)[1])
    assert program == "python"
    with ThreadPoolExecutor(1) as pool, HTTPServer(("127.0.0.1", 0), _Alive) as server:
        argv = [sys.executable, *words]
        env = {**os.environ, "CLIPMOD_PORT": str(server.server_port)}
        for status, code in ((200, 0), (503, 1)):
            _Alive.status = status
            asked = pool.submit(server.handle_request)
            assert subprocess.run(argv, env=env, timeout=30).returncode == code
            asked.result(30)
        assert _Alive.paths == {"/healthz"}
    gone = subprocess.run(argv, env=env, capture_output=True, timeout=30)
    assert gone.returncode == 1


class _Alive(BaseHTTPRequestHandler):
    status = 200
    paths: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self.paths.add(self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


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


def step(tmp_path: Path, part: str, **args: str) -> subprocess.CompletedProcess[str]:
    """Runs the build step with this part; its pip and python only say what they were asked."""
    (script,) = (run for run in arguments(stage("build"), "RUN") if part in run)
    for name in ("pip", "python"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\necho "$@"\n')
        program.chmod(0o755)
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **args}
    return subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=30)


def pip_calls(tmp_path: Path, variant: str) -> subprocess.CompletedProcess[str]:
    """Runs the step that installs torch."""
    return step(tmp_path, "torch>=", VARIANT=variant)


@pytest.mark.parametrize("variant", sorted(INDEXES))
def test_a_variant_installs_the_projects_torch_from_its_own_index(tmp_path: Path, variant: str) -> None:
    clip = project()["optional-dependencies"]["clip"]
    wanted = [d for d in clip if d.startswith(("torch>", "torchvision>"))]
    asked = pip_calls(tmp_path, variant)
    assert asked.returncode == 0
    assert asked.stdout.split() == ["install", *INDEXES[variant], *wanted]


def test_any_other_variant_stops_the_build(tmp_path: Path) -> None:
    asked = pip_calls(tmp_path, "tpu")
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "'tpu'" in asked.stderr


def test_the_small_variant_installs_no_torch(tmp_path: Path) -> None:
    asked = pip_calls(tmp_path, "small")
    assert (asked.returncode, asked.stdout) == (0, "")


@pytest.mark.parametrize(
    ("args", "extras"),
    [
        ({"VARIANT": "cpu"}, "[all]"),
        ({"VARIANT": "gpu"}, "[all]"),
        ({"VARIANT": "small"}, "[nudenet]"),
        ({"VARIANT": "small", "EXTRAS": "heic,stores"}, "[heic,stores]"),
        ({"VARIANT": "cpu", "EXTRAS": ""}, ""),
    ],
    ids=str,
)
def test_extras_are_all_of_them_unless_less_is_asked_for(
    tmp_path: Path, args: dict[str, str], extras: str
) -> None:
    asked = step(tmp_path, "pip wheel", **args)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.splitlines()[1:] == [f"install /wheels/clipmod-*.whl{extras}", "check"]
    assert set(extras.strip("[]").split(",")) <= {*project()["optional-dependencies"], ""}


def test_a_small_image_with_torch_in_it_is_refused(tmp_path: Path) -> None:
    asked = step(tmp_path, "import torch", VARIANT="small")  # this python imports whatever it is asked to
    assert asked.returncode == 2
    assert "VARIANT=cpu" in asked.stderr


def test_the_default_build_is_cpu() -> None:
    assert "VARIANT=cpu" in arguments(stage("build"), "ARG")


def test_the_image_is_marked_for_messages_that_name_commands() -> None:
    (marked,) = (run for run in arguments(stage("build"), "RUN") if run.startswith("touch"))
    (copied,) = arguments(stage("final"), "COPY")
    assert marked.split()[-1] == f"{copied.split()[1]}/{IMAGE_MARK}"


def test_the_builder_is_sent_what_the_wheel_needs_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {word for a in arguments(stage("build"), "COPY") for word in a.split()[:-1]}
    licences = {name.partition("/")[0] for name in project()["license-files"]}
    assert sent == copied >= {"pyproject.toml", project()["readme"], *licences}
    assert all((ROOT / name).exists() for name in sent)
