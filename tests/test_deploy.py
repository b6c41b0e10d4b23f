"""What deploys the service names commands, packages and limits that are there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest
import yaml

from nearshot.commands.main import main
from nearshot.commands.serve import GRACE_S, serve_command
from nearshot.service.protocol import CONNECTIONS, HEAD_SECONDS, READING_SECONDS
from nearshot.service.settings import Settings
from tests.test_packaging import PARTS

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = [service for name, service in COMPOSE["services"].items() if name != "database"]
UNIT = (ROOT / "deploy/nearshot.service").read_text()
NGINX = (ROOT / "deploy/nginx.conf").read_text()
DOCS = (ROOT / "docs/deploy.md").read_text()


def commands() -> list[str]:
    """The arguments of every call of nearshot that is written somewhere."""
    [started] = re.findall(r"^CMD (.*)$", DOCKERFILE, flags=re.MULTILINE)
    lines = [line.split("  # ")[0].strip() for line in DOCS.splitlines() if line.startswith("    ")]
    return [
        shlex.join(json.loads(started)),
        *re.findall(r"^ExecStart=\S+/nearshot (.*)$", UNIT, flags=re.MULTILINE),
        *(match[1] for line in lines if (match := re.search(r"(?:/bin/nearshot|compose run --rm cpu) (.*)$", line))),
    ]


@pytest.mark.parametrize("line", commands())
def test_every_call_of_nearshot_is_one_that_it_takes(line: str) -> None:
    command: click.Command = main
    arguments = shlex.split(line)
    while isinstance(command, click.Group):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    command.make_context("nearshot", arguments, parent=click.Context(main))  # which raises what a user would be told


def test_there_are_calls_to_look_at() -> None:
    assert len(commands()) == 10


def test_the_image_is_built_from_all_packages_and_nothing_else() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert kept == {*PARTS, "nearshot", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"}


def test_compose_builds_the_targets_that_the_dockerfile_has() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert {service["build"]["target"] for service in OURS} == {"cpu", "cuda"} <= set(stages)


def test_the_database_keeps_what_it_is_told_and_is_reached_from_this_machine_alone() -> None:
    database = COMPOSE["services"]["database"]
    assert {volume.split(":")[0] for volume in database["volumes"]} <= COMPOSE["volumes"].keys()
    assert all(port.startswith("127.0.0.1:") for port in database["ports"])


def test_who_stops_it_waits_for_longer_than_it_takes_to_finish() -> None:
    [patience] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, flags=re.MULTILINE)
    graces = {service["stop_grace_period"] for service in OURS}
    assert (graces, int(patience)) == ({"40s"}, 40)
    assert GRACE_S < 40


def test_the_proxy_takes_what_the_service_takes() -> None:
    [upload] = [parameter.default for parameter in serve_command.params if parameter.name == "max_upload"]
    assert f"client_max_body_size {upload}m;" in NGINX
    assert f"client_header_timeout {HEAD_SECONDS:g}s;" in NGINX


def test_the_limits_are_those_that_the_page_tells() -> None:
    settings = Settings()
    for line in (
        f"| a request's head | {HEAD_SECONDS:g} s |",
        f"| a request's body | {settings.seconds:g} s, `--max-upload` MiB (64), {settings.upload_images} images |",
        f"| images between upload and answer | `--queue` ({settings.waiting}) |",
        f"| bodies held by all requests together | {settings.held_bytes >> 30} GiB ",
        f"| time to answer what changes nothing (writes take theirs) | {settings.seconds:g} s |",
        f"| a client that reads nothing of its answer | {READING_SECONDS:g} s |",
        f"| connections | {CONNECTIONS:,} |",
    ):
        assert f"\n{line}" in DOCS, line
