"""The steps of the release workflow, each run by bash as a runner does; only what talks to others is played here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from tests.contract.go_tools import ACTIONLINT, HELM, binary

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / ".github/workflows"
TAG = f"v{__version__}"
HOST, NAMESPACE = "registry.example:5000", "net/tools"
IMAGE, CHART = f"{HOST}/{NAMESPACE}/dualstack-exporter", f"{HOST}/{NAMESPACE}/charts/dualstack-exporter"
IMAGE_DIGEST, CHART_DIGEST = f"sha256:{'1a' * 32}", f"sha256:{'2b' * 32}"
# Programs that talk to a registry or to the repository's host: each writes down how it was called.
PLAYED = f"""#!{sys.executable} -IS
import json, os, pathlib, shutil, subprocess, sys
name, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
if name == "helm" and arguments[0] == "package":
    os.execv({str(binary(HELM))!r}, ["helm", *arguments])
told = sys.stdin.read() if "--password-stdin" in arguments else ""
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([name, arguments, told]) + "\\n")
if os.environ.get("FAILS") == " ".join([name, *arguments[:2]]):
    sys.exit(f"{{name}}: no way to the registry")
if "--metadata-file" in arguments:
    file = arguments[arguments.index("--metadata-file") + 1]
    pathlib.Path(file).write_text(json.dumps({{"containerimage.digest": "{IMAGE_DIGEST}"}}))
if arguments[:1] == ["push"]:
    shutil.copy(arguments[1], os.environ["PUSHED"])
    print("Pushed: somewhere\\nDigest: {CHART_DIGEST}", file=sys.stderr)
if "--bundle" in arguments:
    pathlib.Path(arguments[arguments.index("--bundle") + 1]).write_text("bundle")
if arguments[:2] == ["-m", "venv"]:
    (pathlib.Path(arguments[2]) / "bin").mkdir(parents=True)
    for tool in ("pip", "pip-audit"):
        (pathlib.Path(arguments[2]) / "bin" / tool).symlink_to(sys.argv[0])
"""
IGNORED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "build", "dist", "docs", "*.egg-info")


@dataclass
class Runner:
    """A runner for one job after the other; `values` is what expressions in `env` are."""

    place: Path
    values: dict[str, str]
    fails: str = ""
    read: Any = field(default_factory=lambda: yaml.safe_load((WORKFLOWS / "release.yaml").read_text("utf-8")))

    def __post_init__(self) -> None:
        programs = self.place / "programs"
        programs.mkdir()
        (programs / "player").write_text(PLAYED)
        (programs / "player").chmod(0o755)
        for name in ("docker", "helm", "cosign", "gh", "python3"):
            (programs / name).symlink_to("player")

    def run(self, name: str) -> Path:
        """Run a job's steps in a directory of its own, which is given."""
        directory = self.place / name
        directory.mkdir()
        for step in self.read["jobs"][name]["steps"]:
            used = step.get("uses", "").partition("@")[0]
            if used == "actions/checkout":
                self._check_out(directory)
            elif used == "actions/download-artifact":
                shutil.copytree(self.place / "artifact", directory / step["with"]["path"])
            elif used == "actions/upload-artifact":
                shutil.copytree(directory / step["with"]["path"], self.place / "artifact")
            elif "run" in step:
                done = self.step(step, directory)
                if done.returncode:
                    raise StepError(done.stdout + done.stderr)
        return directory

    def step(self, step: Mapping[str, Any], directory: Path) -> subprocess.CompletedProcess[str]:
        output = self.place / "output"
        output.write_text("")
        declared = {**self.read["env"], **step.get("env", {})}
        environment = {key: self._expanded(str(value)) for key, value in declared.items()} | {
            "PATH": f"{self.place / 'programs'}:{os.environ['PATH']}", "HOME": str(self.place), "CI": "true",
            "GITHUB_OUTPUT": str(output), "GITHUB_SHA": "0" * 40, "FAILS": self.fails,
            "CALLS": str(self.place / "calls"), "PUSHED": str(self.place / "pushed.tgz"),
        }  # fmt: skip
        script = self.place / "step.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "-e", script], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            self.values[f"steps.{step['id']}.outputs.{key}"] = value
        return done

    def calls(self) -> list[tuple[str, list[str], str]]:
        text = (self.place / "calls").read_text()
        return [(name, arguments, told) for name, arguments, told in map(json.loads, text.splitlines())]

    def _expanded(self, text: str) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: self.values[found[1]], text)

    def _check_out(self, directory: Path) -> None:
        shutil.copytree(ROOT, directory, ignore=IGNORED, symlinks=True, dirs_exist_ok=True)
        environment = directory / "scripts/environment.sh"  # what sets up the environment in which this test runs
        environment.write_text(
            f'clone=$(cd "$(dirname "$0")/.." && pwd -P)\nmake_environment() {{ venv={sys.prefix}; }}\n'
        )
        changes = directory / "CHANGELOG.md"  # as on the day of a release
        text = re.sub(r"(?s)(?<=^## \[Unreleased\]\n).*?(?=^## )", "\n", changes.read_text(), flags=re.MULTILINE)
        changes.write_text(text)


class StepError(Exception):
    """A step did not end with 0: what it wrote."""


def runner(place: Path, **values: str) -> Runner:
    own = {
        "github.ref_name": TAG, "github.ref": f"refs/tags/{TAG}", "github.actor": "someone", "github.token": "T0ken",
        "github.repository": "someone/exporter", "vars.REGISTRY": HOST, "vars.REGISTRY_NAMESPACE": NAMESPACE,
        "needs.build.outputs.version": __version__,
    }  # fmt: skip
    place.mkdir(exist_ok=True)
    return Runner(place, own | values)


@pytest.mark.parametrize("path", sorted(WORKFLOWS.iterdir()), ids=lambda path: path.name)
def test_actionlint_has_nothing_to_say(path: Path) -> None:
    done = subprocess.run([binary(ACTIONLINT), path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_job_runs_from_the_tag_to_what_is_published(tmp_path: Path) -> None:
    run = runner(tmp_path / "run")
    for job in ("settings", "build", "image", "chart", "python", "files"):
        directory = run.run(job)
        if job == "build":
            assert run.values["steps.version.outputs.version"] == __version__
            assert (directory / "dist/SHA256SUMS").exists()
        if job == "python":
            assert sorted(path.suffix for path in (directory / "packages").iterdir()) == [".gz", ".whl"]
        if job == "files":
            check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
            names = {line.split()[1] for line in (directory / "dist/SHA256SUMS").read_text().splitlines()}
            kept = [name for name in sorted(names) if (directory / "dist" / name).exists()]
            assert kept == sorted(names)
            assert subprocess.run(check, cwd=directory / "dist", check=False).returncode == 0
    assert set(run.read["jobs"]) == {"settings", "test", "build", "image", "chart", "python", "files"}

    calls = run.calls()
    audit = next(arguments for name, arguments, _ in calls if name == "pip-audit")
    assert [audit[n + 1] for n, word in enumerate(audit) if word == "--requirement"] == [
        "requirements.lock", "requirements-build.lock",
    ]  # fmt: skip
    logins = [(name, arguments[-4:-3], told) for name, arguments, told in calls if "login" in arguments]
    assert logins == [("docker", [HOST], "T0ken\n"), ("helm", [HOST], "T0ken\n"), ("docker", [HOST], "T0ken\n")]
    build = next(arguments for name, arguments, _ in calls if name == "docker" and "build" in arguments)
    assert build[build.index("--tag") + 1] == f"{IMAGE}:{__version__}"
    assert {f"VERSION={__version__}", f"REVISION={'0' * 40}", "linux/amd64,linux/arm64", "--sbom=true"} <= set(build)
    (pushed,) = (arguments for name, arguments, _ in calls if name == "helm" and "push" in arguments)
    assert pushed == ["push", f"build/dualstack-exporter-{__version__}.tgz", f"oci://{CHART.rpartition('/')[0]}"]
    signed = [arguments[-1] for name, arguments, _ in calls if name == "cosign"]
    assert signed == [f"{IMAGE}@{IMAGE_DIGEST}", f"{CHART}@{CHART_DIGEST}", "dist/SHA256SUMS"]
    release = next(arguments for name, arguments, _ in calls if name == "gh")
    assert release[:3] == ["release", "create", TAG]
    assert {"dist/SHA256SUMS.bundle", "dist/daemonset.yaml", "dist/kubectl-dualstack.zip"} <= set(release)

    with tarfile.open(run.place / "pushed.tgz") as archive:
        values = archive.extractfile("dualstack-exporter/values.yaml")
        assert values is not None
        image = yaml.safe_load(values.read())["image"]
    assert (image["repository"], image["tag"] or __version__) == (IMAGE, __version__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGISTRY", ""),
        ("REGISTRY", "https://registry.example"),
        ("REGISTRY_NAMESPACE", ""),
        ("REGISTRY_NAMESPACE", "/a"),
    ],
)
def test_a_missing_variable_ends_with_one_line_before_anything_else(tmp_path: Path, name: str, value: str) -> None:
    run = runner(tmp_path / "run", **{f"vars.{name}": value})
    (step,) = run.read["jobs"]["settings"]["steps"]
    done = run.step(step, tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.fullmatch(rf'::error::Set the repository variable {name} to [^\n]* \(it is "{value}"\)\.\n', done.stdout)
    assert run.read["jobs"]["test"]["needs"] == "settings"


@pytest.mark.parametrize("job", ["image", "chart"])
def test_what_a_registry_refuses_is_not_signed(tmp_path: Path, job: str) -> None:
    refused = {"image": "docker buildx build", "chart": f"helm push build/dualstack-exporter-{__version__}.tgz"}[job]
    run = runner(tmp_path / "run")
    run.fails = refused
    with pytest.raises(StepError):
        run.run(job)
    assert "cosign" not in {name for name, *_ in run.calls()}


def test_a_known_vulnerability_ends_the_release_before_anything_is_built(tmp_path: Path) -> None:
    run = runner(tmp_path / "run")
    run.fails = "pip-audit --disable-pip --require-hashes"
    with pytest.raises(StepError):
        run.run("build")
    assert not (run.place / "build/dist").exists()


def test_no_registry_is_named() -> None:
    text = (WORKFLOWS / "release.yaml").read_text("utf-8")
    assert set(re.findall(r"[\w-]+(?:\.[\w-]+)*\.(?:io|com|org|net|dev|example)\b", text)) == {"registry.example"}


def test_what_finds_vulnerabilities_is_locked_with_hashes() -> None:
    for name in ("requirements-audit.lock", "requirements-go.lock"):
        text = (ROOT / name).read_text()
        pins = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)[1:]
        assert pins
        assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", pin) for pin in pins)
