"""The linters are the same everywhere: in scripts/test, which CI runs, and in the hooks of pre-commit."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_pre_commit_runs_the_linters_of_scripts_test_without_network() -> None:
    steps = re.findall(r'^step "([\w ]+)" (\S+)', (ROOT / "scripts/test").read_text("utf-8"), re.MULTILINE)
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert repository["repo"] == "local"
    hooks = [(hook["name"], Path(hook["entry"].split()[0]).name) for hook in repository["hooks"]]
    assert hooks == steps
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


def test_ci_runs_every_test_with_a_pinned_checkout_and_no_secrets() -> None:
    text = (ROOT / ".github/workflows/ci.yaml").read_text("utf-8")
    (job,) = yaml.safe_load(text)["jobs"].values()
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert [re.fullmatch(r"actions/checkout@[0-9a-f]{40}", action) is not None for action in used] == [True]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert "secrets" not in re.sub(r"#.*", "", text)


def test_the_urls_of_the_package_are_those_of_its_repository() -> None:
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    assert all(url.startswith(urls["Repository"]) for url in urls.values())
