"""The node's own files, where they are mounted: read from their one place, and simply not seen where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.inventory.node_files import ARGUMENTS_DIRECTORY, CNI_DIRECTORIES, MAX_BYTES, read_arguments, read_cni

CONFLIST = (
    '{"name":"k8s-pod-network","plugins":'
    '[{"type":"calico","mtu":1450,"ipam":{"type":"calico-ipam","assign_ipv6":"%s"}}]}'
)


@pytest.fixture
def cni(tmp_path: Path) -> Path:
    directory = tmp_path / CNI_DIRECTORIES[-1]
    directory.mkdir(parents=True)
    return directory


def test_the_first_cni_configuration_by_name_is_the_one_in_use(tmp_path: Path, cni: Path) -> None:
    (cni / "10-calico.conflist").write_text(CONFLIST % "true")
    (cni / "20-other.conflist").write_text(CONFLIST % "false")
    (cni / "00-calico-kubeconfig").write_text("no configuration")
    (found,) = read_cni(tmp_path)
    assert found.source == "/etc/cni/net.d/10-calico.conflist"
    assert (found.main_plugin, found.assign_ipv6, found.mtu) == ("calico", True, 1450)


@pytest.mark.parametrize(
    "directory", ["var/snap/microk8s/current/args/cni-network", "var/lib/rancher/k3s/agent/etc/cni/net.d"]
)
def test_a_distributions_own_directory_is_the_one_that_counts_and_is_named(
    tmp_path: Path, cni: Path, directory: str
) -> None:
    (cni / "87-podman-bridge.conflist").write_text('{"plugins":[{"type":"bridge"}]}')
    own = tmp_path / directory
    own.mkdir(parents=True)
    (own / "cni.yaml").write_text("no configuration")
    assert [each.main_plugin for each in read_cni(tmp_path)] == ["bridge"]
    (own / "10-calico.conflist").write_text(CONFLIST % "false")
    (found,) = read_cni(tmp_path)
    assert (found.main_plugin, found.source) == ("calico", f"/{directory}/10-calico.conflist")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b" " * (MAX_BYTES + 10)])
def test_a_file_of_any_content_is_told_as_an_error_and_raises_nothing(
    tmp_path: Path, cni: Path, content: bytes
) -> None:
    (cni / "10-calico.conflist").write_bytes(content)
    (found,) = read_cni(tmp_path)
    assert found.error


def test_arguments_of_microk8s_are_read_for_this_node(tmp_path: Path) -> None:
    directory = tmp_path / ARGUMENTS_DIRECTORY
    directory.mkdir(parents=True)
    (directory / "kube-proxy").write_text("# comment\n--cluster-cidr=10.1.0.0/16,fd01::/64\n--proxy-mode=ipvs\n")
    (directory / "containerd").write_text("--anything\n")
    (found,) = read_arguments("ra", tmp_path)
    assert (found.component, found.node) == ("kube-proxy", "ra")
    assert found.source == "/var/snap/microk8s/current/args/kube-proxy"
    assert found.arguments == {"cluster-cidr": "10.1.0.0/16,fd01::/64", "proxy-mode": "ipvs"}


def test_what_is_not_mounted_is_not_seen(tmp_path: Path, cni: Path) -> None:
    assert read_cni(tmp_path / "nowhere") == read_cni(tmp_path) == ()
    (cni / "10-directory.conflist").mkdir()
    assert read_cni(tmp_path) == ()
    assert read_arguments("ra", tmp_path) == ()
