"""What a release consists of, and that every artefact has the version of the package."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from exporter import __version__
from exporter.broker.server.privilege import missing_capabilities
from exporter.cli.command import parse
from scripts import krew, release
from scripts.release import ReleaseError

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "deploy/systemd/dualstack-exporter.service"
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


# Versions


def copied(directory: Path) -> Path:
    """The files in which the version stands."""
    for name in (*release.VERSIONED, "CHANGELOG.md"):
        if (ROOT / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, directory / name)
    return directory


def test_every_artefact_has_the_version_of_the_package() -> None:
    release.check_versions(f"v{__version__}")
    assert release.release_date() <= datetime.now(UTC)


@pytest.mark.parametrize("name", release.VERSIONED)
def test_an_artefact_with_another_version_is_no_release(tmp_path: Path, name: str) -> None:
    root = copied(tmp_path)
    release.check_versions(root=root)
    if not (root / name).exists():
        assert name in release.OPTIONAL
        return
    (root / name).write_text((root / name).read_text().replace(__version__, "9.9.9"))
    with pytest.raises(ReleaseError, match=rf"^{re.escape(name)} has version 9\.9\.9 instead of {__version__}"):
        release.check_versions(root=root)


def test_a_tag_is_the_version_and_leaves_nothing_unreleased(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"the tag is v9\.9\.9"):
        release.check_versions("v9.9.9")
    root, tag = copied(tmp_path), f"v{__version__}"
    entry = f"## [{__version__}] - 2026-01-02\n\n- Text.\n"
    (root / "CHANGELOG.md").write_text(f"## [Unreleased]\n\n{entry}")
    assert release.release_date(tag, root) == MOMENT
    (root / "CHANGELOG.md").write_text(f"## [Unreleased]\n\n- Text.\n\n{entry}")
    assert release.release_date(root=root) == MOMENT
    with pytest.raises(ReleaseError, match="under Unreleased"):
        release.release_date(tag, root)
    (root / "CHANGELOG.md").write_text("## [Unreleased]\n")
    with pytest.raises(ReleaseError, match="no entry"):
        release.release_date(tag, root)


# The Python package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return release.build_package(tmp_path_factory.mktemp("dist"), MOMENT)


def test_the_package_is_the_same_wherever_and_whenever_it_is_built(package: tuple[Path, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in release.PACKAGE:
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, elsewhere / name, symlinks=True, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(ROOT / name, elsewhere / name)
            (elsewhere / name).chmod(0o640)
    again = release.build_package(tmp_path, MOMENT, elsewhere)
    assert [path.name for path in again] == [path.name for path in package]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in package]


def test_the_package_is_what_an_index_takes(package: tuple[Path, Path], tmp_path: Path) -> None:
    release.check_package(*package)
    sdist, wheel = package
    assert [path.name for path in package] == [
        f"dualstack_exporter-{__version__}.tar.gz", f"dualstack_exporter-{__version__}-py3-none-any.whl",
    ]  # fmt: skip
    with tarfile.open(sdist) as archive:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in archive} == {(MOMENT.timestamp(), 0, 0, "", "")}
    for changed, says in (
        ({"METADATA": lambda text: text.replace(b"Requires-Python: >=", b"Requires-Python: ~")}, "METADATA|whl"),
        ({"DualstackIpv6Down.md": lambda _: None}, "lacks exporter/runbooks/DualstackIpv6Down.md"),
        ({"METADATA": lambda text: text.replace(b"text/markdown", b"text/plain")}, "not Markdown"),
    ):
        other = tmp_path / wheel.name
        with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(other, "w") as new:
            for name in old.namelist():
                change: Any = changed.get(name.rsplit("/", 1)[-1], bytes)
                if (content := change(old.read(name))) is not None:
                    new.writestr(name, content)
        with pytest.raises(ReleaseError, match=says):
            release.check_package(sdist, other)


def test_an_installed_wheel_works_on_a_laptop(package: tuple[Path, Path], tmp_path: Path) -> None:
    """As pipx installs it, in an environment of its own: no checkout, no network, no cluster."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    (place,) = venv.glob("lib/python*/site-packages")
    with zipfile.ZipFile(package[1]) as wheel:
        wheel.extractall(place)
        (entries,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        scripts = re.findall(r"^([\w-]+) = ([\w.]+):main$", wheel.read(entries).decode(), re.MULTILINE)
    (place / "dependencies.pth").write_text(f"{Path(yaml.__file__).parents[1]}\n")
    assert dict(scripts) == {
        "dualstack-exporter": "exporter.__main__", "kubectl-dualstack": "exporter.cli.kubectl_plugin",
    }  # fmt: skip
    bundle = tmp_path / "cluster.json"
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u"}}
    bundle.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [node]}))

    def run(script: str, *arguments: str) -> str:
        code = f"import sys, {script} as m; assert m.__file__.startswith({str(venv)!r}); sys.exit(m.main())"
        done = subprocess.run(
            [venv / "bin/python", "-c", code, *arguments], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in {0, 1}, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    own, plugin = dict(scripts).values()
    assert run(own, "--version") == f"dualstack-exporter {__version__}\n"
    assert "--fail-on" in run(own, "check", "--help")
    assert run(own, "explain", "dns_aaaa_blocked").startswith("# DualstackDnsAaaaBlocked\n")
    assert "families: auto" in run(own, "config")
    assert "Not checked" in run(own, "check", "--role=cluster", f"--inventory.file={bundle}")
    assert "kubectl dualstack" in run(plugin, "--help")


def test_the_bill_of_materials_names_every_locked_package_with_its_hashes() -> None:
    bill = json.loads(release.bill_of_materials())
    lock = (ROOT / "requirements.lock").read_text()
    named = {f"{each['name']}=={each['version']}" for each in bill["components"]}
    assert named == set(re.findall(r"^[\w.-]+==[^\s;]+", lock, re.MULTILINE))
    assert sum(len(each["hashes"]) for each in bill["components"]) == lock.count("--hash=")
    assert bill["metadata"]["component"]["version"] == __version__


LOADED = """
import importlib, pkgutil, sys, exporter
from importlib.metadata import packages_distributions
for module in pkgutil.walk_packages(exporter.__path__, "exporter."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import pyroute2  # the broker alone loads it, when it starts
named = packages_distributions()
print(*{name for module in sys.modules for name in named.get(module.partition(".")[0], ())})
"""


def test_every_locked_package_is_loaded_or_demanded_by_one_that_is() -> None:
    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    run = subprocess.run([sys.executable, "-c", LOADED], cwd=ROOT, capture_output=True, text=True, check=True)
    locked = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    wanted, due = set[str](), locked & {plain(name) for name in run.stdout.split()}
    while due:
        wanted |= due
        demanded = [Requirement(text) for name in due for text in requires(name) or ()]
        due = {plain(d.name) for d in demanded if d.marker is None or d.marker.evaluate({"extra": ""})} - wanted
    assert locked <= wanted


def test_a_dry_run_builds_everything_and_its_checksums_fit(tmp_path: Path) -> None:
    files = release.build(tmp_path)
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert len((tmp_path / "SHA256SUMS").read_text().splitlines()) == len(files) - 1 == 7


# The workflow


def workflow() -> tuple[str, Any]:
    text = (ROOT / ".github/workflows/release.yaml").read_text("utf-8")
    return text, yaml.safe_load(text)


def test_actions_are_pinned_and_no_step_interpolates() -> None:
    """A tag of an action can be moved, and `${{ }}` in a script is code for whoever names a branch."""
    text, read = workflow()
    assert read["permissions"] == {}
    assert "secrets." not in text
    assert "secrets:" not in text
    for name, job in read["jobs"].items():
        if name == "test":
            assert (ROOT / job["uses"]).exists()
            continue
        assert {"permissions", "timeout-minutes"} <= set(job)
        for step in job["steps"]:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", f"a/b@{'0' * 40}"))
            assert "${{" not in step.get("run", "")
    lines = [line for line in text.splitlines() if "uses: " in line and "./" not in line]
    assert all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in lines)


def test_nothing_is_published_before_the_tests_and_the_check_of_versions() -> None:
    _, read = workflow()
    jobs = read["jobs"]

    def before(name: str) -> set[str]:
        needs = jobs[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*map(before, direct))

    writing = {name for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert writing == {"image", "chart", "python", "files"}
    assert all({"test", "build"} <= before(name) for name in writing)
    assert 'scripts/release "$TAG"' in [step.get("run") for step in jobs["build"]["steps"]]
    assert (ROOT / "scripts/release").stat().st_mode & 0o111


def test_the_workflow_builds_both_architectures_signs_and_attests() -> None:
    _, read = workflow()
    runs = {name: "\n".join(s.get("run", "") for s in job.get("steps", ())) for name, job in read["jobs"].items()}
    for word in (
        "--platform linux/amd64,linux/arm64",
        "--sbom=true",
        "--provenance=mode=max",
        "VERSION=",
        "cosign sign",
    ):
        assert word in runs["image"]
    for word in ("helm package", "helm push", "cosign sign"):
        assert word in runs["chart"]
    for job in ("image", "chart", "python", "files"):
        assert read["jobs"][job]["permissions"]["id-token"] == "write"
    chart = ROOT / "deploy/helm"
    assert not chart.exists() or (ROOT / "deploy/helm/dualstack-exporter/Chart.yaml").exists()


# The systemd unit


def unit(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)


def test_the_units_command_takes_its_flags_and_its_capabilities_are_those_that_are_used() -> None:
    (command,) = unit("ExecStart")
    program, *flags = command.split()
    assert Path(program).name == "dualstack-exporter"
    assert parse(flags, {}).command == ""
    (kept,) = unit("CapabilityBoundingSet")
    used = {f"CAP_{name}" for name in (*missing_capabilities(0), "SETUID", "SETGID")}
    assert set(kept.split()) == used


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit_and_finds_it_confined(tmp_path: Path) -> None:
    """Nothing but the program's place is changed: it has to exist."""
    program, copy = tmp_path / "dualstack-exporter", tmp_path / UNIT.name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy.write_text(UNIT.read_text("utf-8").replace("/usr/local/bin/dualstack-exporter", str(program)))
    for arguments in (["verify", "--man=no"], ["security", "--offline=true", "--no-pager", "--threshold=40"]):
        done = subprocess.run(["systemd-analyze", *arguments, copy], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        if arguments[0] == "verify":
            assert done.stdout + done.stderr == ""


# The kubectl plugin


def test_the_krew_manifest_names_this_version_and_this_archive() -> None:
    assert krew.MANIFEST.read_text("utf-8") == krew.manifest(), "run `make krew`"
    spec = yaml.safe_load(krew.manifest())["spec"]
    (platform,) = spec["platforms"]
    assert platform["uri"].endswith(f"/releases/download/{spec['version']}/{krew.ARCHIVE}")
    assert {key: type(value) for key, value in platform.items()} == {
        "selector": dict, "uri": str, "sha256": str, "bin": str,
    }  # fmt: skip


def test_the_plugin_in_the_archive_runs_by_itself(tmp_path: Path) -> None:
    """Where nothing of this package is installed, on the Python that the manifest asks for."""
    with zipfile.ZipFile(io.BytesIO(krew.archive())) as file:
        assert file.namelist() == ["LICENSE", "kubectl-dualstack"]
        assert file.getinfo("kubectl-dualstack").external_attr >> 16 & 0o777 == 0o755
        file.extractall(tmp_path)
    script = tmp_path / "kubectl-dualstack"
    ast.parse(script.read_text("utf-8"), feature_version=(3, 9))
    for arguments, status, says in ((["--help"], 0, "status"), (["status"], 2, "kubectl is not in PATH")):
        done = subprocess.run(
            [sys.executable, "-I", "-S", script, *arguments],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"PATH": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        assert says in done.stdout + done.stderr
