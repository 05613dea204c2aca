"""Builds the project's image for tests, from nothing but Debian packages and PyPI.

No base image can be pulled where the tests run, so the base is made by debootstrap under the name that the Dockerfile
asks for. It and everything podman keeps lie in a state directory of the tests' own: the name must never shadow a real
image of the machine's user.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from exporter import __version__
from tests import leftovers

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "localhost/dualstack-exporter:test"
NOFILE = "nofile=4096:4096"  # without the right to raise limits, podman's own default fails
NPROC = "nproc=4096:4096"


def state_directory() -> Path:
    """Where bases and images are kept between runs; outside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    directory = Path(cache) / "dualstack-exporter-tests"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def run(*command: str | Path, **options: object) -> str:
    """Run a command to its end and give its stdout; a failure shows everything it said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise AssertionError(
            f"{shlex.join(done.args)} exited {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        )
    return str(done.stdout)


@dataclass(frozen=True, slots=True)
class Podman:
    """podman on storage of the tests' own."""

    storage: Path
    state: Path

    def command(self, *arguments: str | Path) -> list[str]:
        roots = ["--root", str(self.storage), "--runroot", str(self.state)]
        engine = ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        words = [str(argument) for argument in arguments]
        if words[:1] == ["run"]:  # its processes are told by this once the run that started them is gone
            words[1:1] = ["--env", leftovers.MARK]
        return ["podman", *roots, *engine, *words]

    def __call__(self, *arguments: str | Path) -> str:
        return run(*self.command(*arguments))

    def has(self, image: str) -> bool:
        return subprocess.run(self.command("image", "exists", image), check=False, capture_output=True).returncode == 0


def own_podman() -> Podman:
    runroot = Path("/run/dualstack-exporter-tests/podman")
    runroot.mkdir(parents=True, exist_ok=True)
    return Podman(state_directory() / "storage", runroot)


@dataclass(frozen=True, slots=True)
class Base:
    """The base image: this machine's Debian (or Ubuntu) release with its own Python."""

    python: str
    release: str

    @property
    def tag(self) -> str:
        return f"docker.io/library/python:{self.python}-slim-{self.release}"


def this_release() -> Base:
    python = run("/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    return Base(python, platform.freedesktop_os_release()["VERSION_CODENAME"])


def package_source(release: str) -> str:
    """The archive that apt of this machine is configured with: debootstrap uses the same."""
    listed = run("apt-get", "indextargets", "--format", "$(RELEASE) $(CODENAME) $(REPO_URI)", "Created-By: Packages")
    for line in listed.splitlines():
        suite, codename, address = line.split(" ")
        if release in (suite, codename) and not address.startswith("file:"):
            return address
    raise AssertionError(f"apt knows no archive of {release}")


def make_base(podman: Podman) -> Base:
    """The base image in podman's storage, made once per machine."""
    base = this_release()
    if podman.has(base.tag):
        return base
    with tempfile.TemporaryDirectory(dir=state_directory()) as scratch:
        root = Path(scratch) / "root"
        run(
            "debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", base.release, root,
            package_source(base.release),
        )  # fmt: skip
        # As in the image that it stands for: `python` is there, and is what the virtual environment links to.
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for litter in (root / "var/cache/apt/archives").glob("*.deb"):
            litter.unlink()
        run("tar", "-C", root, "-cf", Path(scratch) / "base.tar", ".")
        podman("import", "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin", Path(scratch) / "base.tar", base.tag)
    return base


def pip_settings(directory: Path) -> list[str]:
    """Mounts that give the build this machine's pip configuration and certificates, and leave nothing in the image."""
    sections: dict[str, list[str]] = {}
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        # What the environment says wins over files, and stands later in the list only by luck: one section, the
        # environment last.
        sections.setdefault(section, []).append(f"{option} = {value.strip(chr(39))}")
    settings = directory / "pip.conf"
    environment = sections.pop(":env:", [])
    merged = {line.partition(" ")[0]: line for lines in (*sections.values(), environment) for line in lines}
    settings.write_text("\n".join(["[global]", *merged.values(), ""]))
    mounts = ["--volume", f"{settings}:/etc/pip.conf:ro"]
    bundle = next((line.partition(" = ")[2] for name, line in merged.items() if name == "cert"), "")
    if bundle:
        mounts += ["--volume", f"{Path(bundle).resolve()}:{bundle}:ro"]
    return mounts


def build_image(podman: Podman) -> str:
    """The project's image as the Dockerfile makes it; layers that did not change come from podman's cache."""
    base = make_base(podman)
    with tempfile.TemporaryDirectory() as scratch:
        podman(
            "build", "--network", "host", "--format", "docker", "--pull-never", "--ulimit", NOFILE, "--ulimit", NPROC,
            *pip_settings(Path(scratch)),
            "--build-arg", f"PYTHON_VERSION={base.python}", "--build-arg", f"DEBIAN_RELEASE={base.release}",
            "--build-arg", f"VERSION={__version__}", "--build-arg", "REVISION=test", "--tag", IMAGE, ROOT,
        )  # fmt: skip
    podman("image", "prune", "--force", "--filter", "until=24h")  # what older builds left behind
    return IMAGE
