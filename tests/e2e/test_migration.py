"""`migration` as an operator runs it on an inventory file: output, exit status, and one line for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.e2e.daemon import run_exporter

DATA = Path(__file__).resolve().parents[1] / "data" / "kubernetes"
SINGLE, DUAL = DATA / "cluster-single-stack-v4.yaml", DATA / "cluster-healthy-dual-stack-kubeadm.yaml"


def test_of_a_single_stack_cluster_every_phase_and_the_next_step_are_printed() -> None:
    done = run_exporter("migration", f"--inventory.file={SINGLE}")
    assert done.returncode == 1
    assert "Next: Each Node object has an IPv6 InternalIP." in done.stdout
    headings = [line.split(".")[0] for line in done.stdout.splitlines() if line[:1].isdigit() and ". " in line[:4]]
    assert headings == [*map(str, range(1, 14))]
    assert done.stderr == ""


def test_a_finished_cluster_exits_with_0() -> None:
    done = run_exporter("migration", f"--inventory.file={DUAL}", "--output=json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["next"] is None


def test_markdown_is_a_list_to_tick_off() -> None:
    done = run_exporter("migration", f"--inventory.file={SINGLE}", "--output=markdown")
    assert done.returncode == 1
    assert done.stdout.startswith("# To dual-stack")
    assert "- [ ] The API server has a Service range of IPv6: missing (servicecidr/kubernetes)" in done.stdout


@pytest.mark.parametrize(
    ("settings", "flags", "goal"),
    [("", ["--to=ipv6"], ["IPv6"]), ("families: [IPv6]\n", [], ["IPv6"]), ("", [], ["IPv4", "IPv6"])],
)
def test_the_goal_is_dual_stack_unless_ipv6_alone_is_asked_for(
    tmp_path: Path, settings: str, flags: list[str], goal: list[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"role: node\n{settings}")
    done = run_exporter("migration", f"--config.file={config}", f"--inventory.file={SINGLE}", "--output=json", *flags)
    assert json.loads(done.stdout)["goal"] == goal


def test_a_file_without_nodes_in_which_nothing_is_missing_exits_with_2(tmp_path: Path) -> None:
    document = yaml.safe_load(DUAL.read_text())
    document["items"] = [item for item in document["items"] if item["kind"] != "Node"]
    file = tmp_path / "cluster.yaml"
    file.write_text(json.dumps(document))
    done = run_exporter("migration", f"--inventory.file={file}")
    assert done.returncode == 2
    assert "cannot be seen: the file has no nodes" in done.stdout


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "empty.yaml"
    file.write_text("kind: List\napiVersion: v1\nitems: []\n")
    for flags in ([f"--inventory.file={file}"], [f"--inventory.file={tmp_path}/none"], ["--output=xml"]):
        done = run_exporter("migration", *flags)
        assert done.returncode == 2
        assert done.stdout == ""
        assert len(done.stderr.splitlines()) == 1
