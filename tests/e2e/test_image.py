"""The container image, built for real: what it holds, and that it works without power and on a read-only root."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from exporter import __version__
from tests.e2e import check_in_image
from tests.e2e.image import NOFILE, NPROC, ROOT, Podman, build_image, own_podman

pytestmark = pytest.mark.real

POWERLESS = [
    "--rm", "--no-healthcheck", "--network", "none", "--ulimit", NOFILE, "--ulimit", NPROC, "--read-only",
    "--read-only-tmpfs=false", "--cap-drop", "all",
    "--security-opt", "no-new-privileges",
]  # fmt: skip


@pytest.fixture(scope="module")
def podman() -> Podman:
    return own_podman()


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    return build_image(podman)


def inside(podman: Podman, image: str, *command: str) -> str:
    """What a command says in a container of the image, with its own user, no capability and a read-only root."""
    return podman("run", *POWERLESS, "--entrypoint", command[0], image, *command[1:])


@pytest.fixture(scope="module")
def settings(podman: Podman, image: str) -> Any:
    return json.loads(podman("image", "inspect", image))[0]


def test_it_starts_unprivileged_and_read_only(podman: Podman, image: str) -> None:
    assert podman("run", *POWERLESS, image, "--version").strip() == f"dualstack-exporter {__version__}"


def test_it_prints_its_configuration_there_too(podman: Podman, image: str) -> None:
    assert "interval: 30s" in podman("run", *POWERLESS, image, "config")


def test_its_settings(settings: Any) -> None:
    healthcheck, settings = settings["Healthcheck"], settings["Config"]
    assert settings["User"] == "65532:65532"
    assert settings["Entrypoint"] == ["dualstack-exporter"]
    assert list(settings["ExposedPorts"]) == ["10046/tcp"]
    assert "http://localhost:10046/-/healthy" in healthcheck["Test"][-1]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in settings["Labels"].items()}
    assert (labels["title"], labels["version"], labels["revision"]) == ("dualstack-exporter", __version__, "test")
    package = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert labels["source"] == package["urls"]["Repository"]


def test_its_healthcheck_fails_while_nothing_listens(podman: Podman, image: str, settings: Any) -> None:
    kind, *command = settings["Healthcheck"]["Test"]
    assert kind == "CMD"
    with pytest.raises(AssertionError, match=r"refused|unreachable|Cannot assign"):
        inside(podman, image, *command)


def test_it_holds_the_locked_versions_and_nothing_to_build_or_install_with(podman: Podman, image: str) -> None:
    listed = inside(
        podman, image, "python", "-c",
        "import importlib.metadata as m; print('\\n'.join(d.name.lower().replace('_', '-') + '==' + d.version"
        " for d in m.distributions(path=['/opt/dualstack-exporter/lib/python%d.%d/site-packages' % "
        "__import__('sys').version_info[:2]])))",
    )  # fmt: skip
    locked = {line.split(" ")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert set(listed.split()) == {*locked, f"dualstack-exporter=={__version__}"}
    with pytest.raises(AssertionError, match="not found"):
        inside(podman, image, "sh", "-c", "command -v gcc || { echo not found >&2; exit 1; }")


def test_its_kubernetes_client_reads_an_api(podman: Podman, image: str) -> None:
    """The Dockerfile leaves most of the client's generated code out."""
    code = Path(check_in_image.__file__).read_text()
    said = podman("run", *POWERLESS, "--tmpfs", "/tmp", "--entrypoint", "python", image, "-c", code, "/tmp")
    assert "warning: node_internal_ip_missing" in said
    assert "node/old" in said
    assert said.splitlines()[-1] == "exit 1"


def test_what_it_adds_to_its_base_is_small(podman: Podman, image: str) -> None:
    kilobytes = int(inside(podman, image, "du", "-sk", "/opt/dualstack-exporter").split()[0])
    assert kilobytes < 80_000


def test_its_bytecode_is_ready_and_nothing_in_it_is_writable(podman: Podman, image: str) -> None:
    missing = (
        "import importlib.util as u, pathlib, exporter;"
        "print([str(p) for p in pathlib.Path(exporter.__path__[0]).rglob('*.py') if not "
        "pathlib.Path(u.cache_from_source(str(p))).exists()])"
    )
    assert inside(podman, image, "python", "-c", missing).strip() == "[]"
    assert inside(podman, image, "find", "/opt/dualstack-exporter", "-writable", "!", "-type", "l").strip() == ""


def test_nothing_of_the_machine_that_built_it_is_left_in_it(podman: Podman, image: str) -> None:
    assert inside(podman, image, "sh", "-c", "ls /etc/pip.conf /src /build /wheels 2>/dev/null || true").strip() == ""


def test_the_build_context_is_what_the_dockerfile_copies() -> None:
    """Not the clone with its history, its environment and whatever lies in it."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == {
        "requirements.lock", "requirements-build.lock", "pyproject.toml", "README.md", "LICENSE", "exporter/**",
        "alerts/runbooks/**",
    }  # fmt: skip
