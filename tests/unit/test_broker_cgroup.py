"""Which line of /proc/PID/cgroup stands for a process, under both cgroup versions and both drivers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.broker.protocol.messages import FoundNamespace, Process
from exporter.broker.protocol.wire import MAX_CGROUP
from exporter.broker.server.processes import MAX_OF_CONTAINER, choose_cgroup, share_out

GREEDY, OTHER = "0a6ee5b2-92cf-4c93-8c6f-0c1d6d0d7e11", "5f0f4f6e-1b0a-4a7c-9d7e-7f2b5c3a9e22"

UID = b"9b1f2c3d-0a1b-4c2d-8e3f-001122334455"
UNDERSCORES = UID.replace(b"-", b"_")
STATIC = b"5a4b3c2d1e0f5a4b3c2d1e0f5a4b3c2d"
CONTAINER = b"c" * 64


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (b"0::/kubepods/burstable/pod%b/%b\n" % (UID, CONTAINER), b"/kubepods/burstable/pod%b/%b" % (UID, CONTAINER)),
        (b"0::/../../pod%b/%b\n" % (UID, CONTAINER), b"/../../pod%b/%b" % (UID, CONTAINER)),
        (
            b"0::/kubepods.slice/kubepods-pod%b.slice/cri-containerd-%b.scope\n" % (UNDERSCORES, CONTAINER),
            b"/kubepods.slice/kubepods-pod%b.slice/cri-containerd-%b.scope" % (UNDERSCORES, CONTAINER),
        ),
        (b"0::/kubepods/pod%b/%b\n" % (STATIC, CONTAINER), b"/kubepods/pod%b/%b" % (STATIC, CONTAINER)),
        (
            b"12:pids:/\n4:memory:/kubepods/pod%b/%b\n1:name=systemd:/user.slice/%b\n0::/\n" % (UID, CONTAINER,
                b"x" * 200),
            b"/kubepods/pod%b/%b" % (UID, CONTAINER),
        ),
        (b"2:cpu:/kubepods/pod%b\n1:pids:/kubepods/pod%b/%b\n" % (UID, UID, CONTAINER),
            b"/kubepods/pod%b/%b" % (UID, CONTAINER)),
        (b"9:cpu:/\n4:memory:/machine.slice/libpod-1.scope\n0::/\n", b"/machine.slice/libpod-1.scope"),
        (b"0::/a:b:c\n", b"/a:b:c"),
        (b"0::/a\rb\n", b"/a\rb"),
        (b"0::/\n", b"/"),
        (b"", b""),
    ],
    ids=["v2", "private", "systemd", "static", "v1", "deepest", "no pod", "colons", "carriage return", "root", "ended"],
)  # fmt: skip
def test_the_path_that_names_a_pod_is_chosen(text: bytes, chosen: bytes) -> None:
    assert choose_cgroup(text) == chosen


@pytest.mark.parametrize(
    "name", [b"podman", b"pod", b"pod-%b" % UID, b"xpod%b" % UID, b"pod%b0" % UID, b"pod" + b"g" * 32]
)
def test_what_only_looks_like_a_pod_is_none(name: bytes) -> None:
    assert choose_cgroup(
        b"2:cpu:/%b\n0::/something/longer/than/the/other/and/by/far/without/any/pod\n" % name
    ).startswith(b"/some")


def test_a_pod_is_known_in_a_path_made_too_long() -> None:
    path = b"/kubepods/pod%b/%b" % (UID, CONTAINER) + b"/deeper" * 500
    chosen = choose_cgroup(b"0::%b\n" % path)
    assert len(chosen) <= MAX_CGROUP
    assert chosen.endswith(b"pod" + UID)


@given(st.binary(max_size=2000))
def test_any_text_gives_a_bounded_path(text: bytes) -> None:
    assert len(choose_cgroup(text)) <= MAX_CGROUP


def test_a_pod_of_thousands_of_namespaces_pushes_no_other_out() -> None:
    greedy, other = (b"/kubepods/pod%b/c" % uid.encode() for uid in (GREEDY, OTHER))
    cgroups = [greedy] * 5000 + [other] + [b"/user.slice"] * 100 + [greedy]
    found = [FoundNamespace(4, i, (Process(i + 1, 1, cgroup),)) for i, cgroup in enumerate(cgroups)]
    kept = [namespace.processes[0].cgroup for namespace in share_out(found)]
    assert kept == [greedy] * MAX_OF_CONTAINER + [other] + [b"/user.slice"] * 100
