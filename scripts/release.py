"""What a release consists of: sdist, wheel, software bill of materials, kubectl plugin, manifests, checksums.

The same commit gives the same bytes on every machine: times and modes of files are fixed, and nothing of the network is
used. `scripts/release` runs it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from packaging.metadata import Metadata

from exporter import __version__
from scripts import krew

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ("pyproject.toml", "README.md", "LICENSE", "exporter", "alerts/runbooks")  # what the package is built from
# Where the version stands, beside exporter/__init__.py, from which pyproject.toml takes it.
VERSIONED = {
    "deploy/components/image/kustomization.yaml": r'newTag: "(.*)"',
    "deploy/daemonset.yaml": r"image: \S+:(\S+)",
    "deploy/krew/dualstack.yaml": r"version: v(.*)",
    "README.md": r"IMAGE=registry\.example/dualstack-exporter:([\w.]+)",
    "deploy/helm/dualstack-exporter/Chart.yaml": r'(?:^|\n)(?:version|appVersion): "?([^"\n]*)"?',
}
OPTIONAL = frozenset({"deploy/helm/dualstack-exporter/Chart.yaml"})


class ReleaseError(Exception):
    """Why this is no release. The message is one line."""


def check_versions(tag: str = "", root: Path = ROOT) -> None:
    """Raise ReleaseError where a file has another version than the package."""
    if tag not in ("", f"v{__version__}"):
        raise ReleaseError(f"the tag is {tag}, the version {__version__}")
    for name, pattern in VERSIONED.items():
        if name in OPTIONAL and not (root / name).exists():
            continue
        found = set(re.findall(pattern, (root / name).read_text("utf-8")))
        if found != {__version__}:
            raise ReleaseError(f"{name} has version {', '.join(sorted(found)) or 'none'} instead of {__version__}")


def release_date(tag: str = "", root: Path = ROOT) -> datetime:
    """The day of the version's entry in CHANGELOG.md. ReleaseError without one, or if a tag leaves changes out."""
    text = (root / "CHANGELOG.md").read_text("utf-8")
    entry = re.search(rf"^## \[{re.escape(__version__)}\] - (\d{{4}}-\d\d-\d\d)$", text, re.MULTILINE)
    if entry is None:
        raise ReleaseError(f"CHANGELOG.md has no entry for {__version__} with a date")
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if tag and unreleased is not None and unreleased[1].strip():
        raise ReleaseError("CHANGELOG.md has changes under Unreleased")
    return datetime.fromisoformat(entry[1]).replace(tzinfo=UTC)


def build_package(into: Path, moment: datetime, root: Path = ROOT) -> tuple[Path, Path]:
    """The sdist and the wheel, reproducible."""
    epoch = int(moment.timestamp())
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        for name in PACKAGE:
            place = work / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if (root / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(root / name, place, symlinks=True, ignore=ignored)
            else:
                shutil.copyfile(root / name, place)
        for path in [work, *work.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
                os.utime(path, (epoch, epoch))
        made = work / "made"
        code = "import setuptools.build_meta as b; b.build_sdist('made'); b.build_wheel('made')"
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(epoch), "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [sys.executable, "-c", f"import os; os.umask(0o022); {code}"],
            cwd=work, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ReleaseError(f"setuptools: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        (sdist,), (wheel,) = made.glob("*.tar.gz"), made.glob("*.whl")
        (into / sdist.name).write_bytes(_settled(sdist.read_bytes(), epoch))
        shutil.copyfile(wheel, into / wheel.name)
        return into / sdist.name, into / wheel.name


def _settled(sdist: bytes, epoch: int) -> bytes:
    """The same archive in the order of names, without owners and times: setuptools takes them from the machine."""
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(sdist)) as old,
        gzip.GzipFile(fileobj=made, mode="wb", filename="", mtime=epoch) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old, key=lambda each: each.name):
            content = old.extractfile(member) if member.isfile() else None
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch, 0, 0, "", ""
            member.mode, member.pax_headers = 0o755 if member.isdir() else 0o644, {}
            new.addfile(member, content)
    return made.getvalue()


def check_package(sdist: Path, wheel: Path) -> None:
    """Raise ReleaseError where an index would refuse the package, or it lacks what it needs."""
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        wheels = file.read(metadata)
    with tarfile.open(sdist) as archive:
        info = archive.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/PKG-INFO")
        assert info is not None
        texts = {wheel.name: wheels, sdist.name: info.read()}
    for name, text in texts.items():
        try:
            read = Metadata.from_email(text, validate=True)
        except ExceptionGroup as error:
            raise ReleaseError(f"{name}: {error.exceptions[0]}") from error
        if str(read.version) != __version__ or not (read.description or "").strip():
            raise ReleaseError(f"{name}: version {read.version}, or no description")
        if read.description_content_type != "text/markdown":
            raise ReleaseError(f"{name}: the description is not Markdown but {read.description_content_type}")
    runbooks = {f"exporter/runbooks/{path.name}" for path in (ROOT / "alerts/runbooks").glob("*.md")}
    if missing := runbooks - names:
        raise ReleaseError(f"{wheel.name} lacks {min(missing)}")


def bill_of_materials(root: Path = ROOT) -> str:
    """CycloneDX 1.6 of the locked packages that the image contains and a wheel may be installed with."""
    components = []
    lines = (root / "requirements.lock").read_text("utf-8").replace("\\\n", " ").splitlines()
    for name, version, hashes in re.findall(r"^([\w.-]+)==(\S+) (.*)$", "\n".join(lines), re.MULTILINE):
        digests = sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", hashes))
        components.append({
            "type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}",
            "bom-ref": f"pkg:pypi/{name}@{version}",
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in digests],
        })  # fmt: skip
    own = f"pkg:pypi/dualstack-exporter@{__version__}"
    bill = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {
            "component": {
                "type": "application", "name": "dualstack-exporter", "version": __version__, "purl": own,
                "bom-ref": own, "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": own, "dependsOn": [each["bom-ref"] for each in components]}],
    }  # fmt: skip
    return json.dumps(bill, indent=1) + "\n"


def build(into: Path, tag: str = "") -> list[Path]:
    """Build and check everything; the files. Raises ReleaseError."""
    check_versions(tag)
    moment = release_date(tag)
    if krew.MANIFEST.read_text("utf-8") != krew.manifest():
        raise ReleaseError("deploy/krew/dualstack.yaml is out of date: run `make krew`")
    into.mkdir(exist_ok=True)
    check_package(*build_package(into, moment))
    (into / krew.ARCHIVE).write_bytes(krew.archive())
    (into / f"dualstack-exporter-{__version__}.cdx.json").write_text(bill_of_materials(), "utf-8")
    for name in ("deploy/krew/dualstack.yaml", "deploy/daemonset.yaml", "deploy/systemd/dualstack-exporter.service"):
        shutil.copyfile(ROOT / name, into / Path(name).name)
    files = sorted(path for path in into.iterdir() if path.name != "SHA256SUMS")
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (into / "SHA256SUMS").write_text(sums, "utf-8")
    return [*files, into / "SHA256SUMS"]


def main(arguments: list[str]) -> int:
    into = ROOT / "dist"
    shutil.rmtree(into, ignore_errors=True)
    try:
        files = build(into, *arguments)
    except ReleaseError as error:
        print(f"release: {error}", file=sys.stderr)
        return 2
    print("".join(f"dist/{path.name}\n" for path in files), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
