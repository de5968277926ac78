"""What can be said of Dockerfile and docker-compose.yml without an engine.

``make image-check`` builds the image and runs it.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.settings import ENVIRONMENT_PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
SERVICES = ("hourglass", "hourglass-gpu", "prometheus", "grafana")
BUILD_GROUP = "hourglass-serve (pyproject.toml:build)"
CONFINEMENT = ("read_only: true", "cap_drop: [ALL]", '["no-new-privileges:true"]', "pids_limit:")


def block(name):
    """Give the lines of compose that belong to *name*, a service or an anchored extension."""
    found = re.search(rf"^( *){name}:.*\n((?:\1 +.*\n|\n)*)", COMPOSE, re.MULTILINE)
    assert found, f"docker-compose.yml has no {name}"
    return found[2]


def locked(name):
    """Give package -> (version, who wants it) of a lock file, for Linux and the oldest Python."""
    text = (ROOT / "requirements" / name).read_text()
    entries = re.findall(r"^([a-z0-9-]+)==(\S+)([^\n]*)\n((?:[ ].*\n?)*)", text, re.MULTILINE)
    return {
        package: (
            version,
            set(re.findall(r"^    # +(?:via )?(\S.*)$", body, re.MULTILINE)) - {"via"},
        )
        for package, version, marker, body in entries
        if "== 'darwin'" not in marker and ">= '3.12'" not in marker
    }


def build_only():
    """Find what nothing but the build backend wants, as the lock file itself tells it."""
    wanted_by = {package: users for package, (_, users) in locked("serve.txt").items()}
    found = {package for package, users in wanted_by.items() if users <= {BUILD_GROUP}}
    while more := {p for p, users in wanted_by.items() if users <= found | {BUILD_GROUP}} - found:
        found |= more
    return found


def test_the_image_runs_as_a_numeric_user_who_is_not_root():
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]


def test_every_base_can_be_replaced_by_a_build_argument():
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)) == {"${BASE_IMAGE}"}
    assert re.search(r"^ARG BASE_IMAGE=\S+:\S+$", DOCKERFILE, re.MULTILINE)


def test_signals_reach_the_server_because_no_shell_stands_before_it():
    for instruction in ("ENTRYPOINT", "CMD"):
        assert re.search(rf"^{instruction} \[", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^ +CMD \[", DOCKERFILE, re.MULTILINE), "the health check"


def test_no_run_has_a_here_document():
    assert "<<" not in DOCKERFILE


def test_everything_is_installed_with_hashes_and_nothing_names_an_index():
    assert "--require-hashes" in DOCKERFILE
    for text in (DOCKERFILE, *(lock.read_text() for lock in (ROOT / "requirements").iterdir())):
        assert not re.search(r"(index-url|find-links|https?://)", text)


def test_the_build_tools_that_leave_the_image_are_those_that_only_the_build_needs():
    removed = re.search(r"uninstall --yes \\\n +(.*?) \\\n", DOCKERFILE)

    assert removed
    assert set(removed[1].split()) == build_only()


def test_the_cuda_lock_pins_what_the_other_pins_and_only_adds_the_libraries():
    serve, cuda = locked("serve.txt"), locked("cuda.txt")

    assert {package: cuda[package][0] for package in serve} == {p: v for p, (v, _) in serve.items()}
    assert {package.split("-")[0] for package in cuda.keys() - serve.keys()} == {"nvidia"}


def test_the_build_context_holds_what_the_dockerfile_copies_and_little_else():
    copied = " ".join(re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)).split()

    assert IGNORED[1] == "*"
    admitted = {line[1:].split("/")[0] for line in IGNORED if line.startswith("!")}
    assert admitted == {source.rstrip("/") for source in copied}


@pytest.mark.parametrize("text", [DOCKERFILE, COMPOSE], ids=["Dockerfile", "compose"])
def test_every_setting_that_is_given_exists(text):
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}

    given = set(re.findall(r"HOURGLASS_[A-Z_]+", text))

    assert given
    assert given <= known


def test_onnx_runtime_sends_no_usage_data():
    assert "ORT_DISABLE_TELEMETRY=1" in DOCKERFILE


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_and_limited(name):
    service = block(name)

    assert "<<: *confined" in service or "<<: *hourglass" in service
    assert "<<: *confined" in block("x-hourglass")
    assert [line for line in CONFINEMENT if line not in block("x-confined")] == []
    assert re.search(r"mem_limit: \d", service)
    assert "cpus: " in service
    assert not re.search(r"privileged|cap_add|network_mode|/docker\.sock|user: root", service)


def test_a_server_that_ends_by_itself_is_started_again():
    """Exit status 4 says that the device is lost and that only a new process helps."""
    assert "restart: unless-stopped" in block("x-confined")


@pytest.mark.parametrize("name", SERVICES)
def test_every_port_is_published_on_this_machine_alone(name):
    ports = re.findall(r'ports: \["([^"]*)"\]', block(name))

    assert len(ports) == 1
    assert ports[0].startswith("127.0.0.1:")


def test_only_the_service_on_the_cpu_starts_without_a_profile():
    profiles = {name: re.findall(r"profiles: \[(.*)\]", block(name)) for name in SERVICES}

    assert profiles == {
        "hourglass": [],
        "hourglass-gpu": ["gpu"],
        "prometheus": ["monitoring"],
        "grafana": ["monitoring"],
    }


def test_the_gpu_is_reserved_by_its_own_service_alone():
    assert "driver: nvidia" in block("hourglass-gpu")
    assert COMPOSE.count("driver: nvidia") == 1


def test_every_folder_that_is_mounted_exists_and_is_read_only():
    mounts = re.findall(r"- \./(\S+?):(\S+)", COMPOSE)

    assert [folder for folder, _ in mounts] == [
        "models",
        "deploy/prometheus",
        "deploy/grafana/provisioning",
        "deploy/grafana/dashboards",
    ]
    assert all((ROOT / folder).is_dir() and target.endswith(":ro") for folder, target in mounts)


def test_prometheus_scrapes_the_service_by_the_name_that_compose_gives_it():
    assert '"hourglass:8000"' in (ROOT / "deploy/prometheus/prometheus.yml").read_text()


@pytest.mark.parametrize(
    "command",
    [
        ("hadolint", "Dockerfile"),
        (
            "check-jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            "docker-compose.yml",
        ),
        ("shellcheck", "deploy/image-check"),
    ],
    ids=lambda command: command[0],
)
def test_a_linter_that_is_installed_finds_nothing(command):
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")

    ran = subprocess.run(
        [program, *command[1:]], check=False, cwd=ROOT, capture_output=True, text=True
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
