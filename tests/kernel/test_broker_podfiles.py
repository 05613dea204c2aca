"""A pod's files, read by the broker: the pod may be hostile, and the broker is root."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.broker.protocol.messages import HOME, InstalledLibc, NamespaceRef, PodFiles
from exporter.broker.protocol.wire import MAX_RESOLV_CONF
from exporter.broker.server.files.podfiles import GLIBC_FILES, MUSL_FILES, read_pod_files, unreadable
from exporter.broker.server.privilege import BROKER_CAPABILITIES, limit_capabilities
from tests.kernel.broker_lab import descriptors_of, place_of_pid, process, run_forked
from tests.lab.roots import place_program

pytestmark = pytest.mark.real

SECRET = b"nameserver 192.0.2.66 # of the host\n"
CONTENT = b"nameserver 2001:db8::10\nsearch default.svc.cluster.local\n"

POD = """if True:
    import os, subprocess, sys
    root = sys.argv[1]
    os.makedirs(f"{root}/proc", exist_ok=True)
    subprocess.run(["mount", "-t", "proc", "proc", f"{root}/proc"], check=True)
    os.chroot(root)
    os.chdir("/")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory of the pod; beside it stands what the pod must not reach."""
    (tmp_path / "secret").write_bytes(SECRET)
    folder = tmp_path / "root"
    (folder / "etc").mkdir(parents=True)
    return folder


@contextmanager
def pod(root: Path) -> Iterator[NamespaceRef]:
    """A process with this root directory, and with procfs mounted there in a mount namespace of its own."""
    with process("unshare", "--mount", "--propagation=private", sys.executable, "-c", POD, str(root)) as started:
        yield place_of_pid(started.pid)


def read(root: Path) -> PodFiles:
    with pod(root) as place:
        before = len(descriptors_of(os.getpid()))
        files = read_pod_files(place)
        assert len(descriptors_of(os.getpid())) == before
    return files


def resolv(root: Path) -> tuple[int, bytes]:
    files = read(root)
    return files.resolv_errno, files.resolv_conf


def test_the_pods_own_file_is_read(root: Path) -> None:
    (root / "etc/resolv.conf").write_bytes(CONTENT)
    assert resolv(root) == (0, CONTENT)


def test_a_mounted_file_is_read(root: Path) -> None:
    """As the kubelet puts it there."""
    (root / "etc/resolv.conf").touch()
    mounted = root.parent / "mounted"
    mounted.write_bytes(CONTENT)
    subprocess.run(["mount", "--bind", str(mounted), str(root / "etc/resolv.conf")], check=True)
    try:
        assert resolv(root) == (0, CONTENT)
    finally:
        subprocess.run(["umount", str(root / "etc/resolv.conf")], check=True)


@pytest.mark.parametrize("target",
    ["/run/resolv.conf", "../run/resolv.conf", "../../../../../../../run/resolv.conf",
        "/../run/resolv.conf"])  # fmt: skip
def test_a_link_is_followed_inside_the_root(root: Path, target: str) -> None:
    (root / "run").mkdir()
    (root / "run/resolv.conf").write_bytes(CONTENT)
    (root / "etc/resolv.conf").symlink_to(target)
    assert resolv(root) == (0, CONTENT)


def test_no_link_leads_out_of_the_root(root: Path) -> None:
    link = root / "etc/resolv.conf"
    secret = root.parent / "secret"
    for target in (secret, "../../secret", "../../../../../../../.." + str(secret), "/../secret"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert resolv(root) == (errno.ENOENT, b"")


def test_a_linked_directory_does_not_lead_out_either(root: Path) -> None:
    (root / "etc").rmdir()
    (root / "etc").symlink_to(root.parent)
    (root.parent / "resolv.conf").write_bytes(SECRET)
    assert resolv(root) == (errno.ENOENT, b"")


@pytest.mark.parametrize("link", ["{pid}/root", "{pid}/cwd", "self/root", "thread-self/root"])
def test_magic_links_are_not_followed(root: Path, link: str) -> None:
    """In a pod that sees the host's processes, /proc/self is the broker's own."""
    (root / "etc/resolv.conf").symlink_to(f"/proc/{link.format(pid=os.getpid())}/etc/hostname")
    number, content = resolv(root)
    assert (number, content) == (errno.ELOOP, b"")


@pytest.mark.parametrize("file", ["self/environ", "self/maps", "1/environ", "kmsg", "kallsyms"])
def test_what_procfs_makes_up_is_not_read(root: Path, file: str) -> None:
    """Not the broker's own memory, not what another pod may not see, and not kmsg, where a reader waits."""
    (root / "etc/resolv.conf").symlink_to(f"/proc/{file}")
    assert resolv(root) == (0, b"")


def test_a_fifo_is_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "etc/resolv.conf")
    assert resolv(root) == (errno.EINVAL, b"")


@pytest.mark.parametrize(("major", "minor"), [(1, 5), (1, 8), (10, 130)], ids=["zero", "random", "watchdog"])
def test_a_device_is_not_opened(root: Path, major: int, minor: int) -> None:
    os.mknod(root / "etc/resolv.conf", stat.S_IFCHR | 0o600, os.makedev(major, minor))
    assert resolv(root) == (errno.EINVAL, b"")


def test_a_socket_is_not_opened(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root / "etc")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("resolv.conf")
        assert resolv(root) == (errno.EINVAL, b"")


def test_a_directory_is_no_file(root: Path) -> None:
    (root / "etc/resolv.conf").mkdir()
    assert resolv(root) == (errno.EISDIR, b"")


def test_a_missing_file_is_said_to_be_missing(root: Path) -> None:
    assert resolv(root) == (errno.ENOENT, b"")


def test_an_empty_file_is_empty(root: Path) -> None:
    (root / "etc/resolv.conf").touch()
    assert resolv(root) == (0, b"")


def test_a_loop_of_links_ends(root: Path) -> None:
    (root / "etc/resolv.conf").symlink_to("/etc/resolv.conf")
    assert resolv(root) == (errno.ELOOP, b"")


def test_no_more_is_read_than_the_bound(root: Path) -> None:
    file = root / "etc/resolv.conf"
    file.write_bytes(b"#" * MAX_RESOLV_CONF)
    assert resolv(root) == (0, b"#" * MAX_RESOLV_CONF)
    file.write_bytes(b"#" * (MAX_RESOLV_CONF + 1))
    assert resolv(root) == (errno.EFBIG, b"")


def test_a_file_of_100_gigabytes_costs_nothing(root: Path) -> None:
    file = root / "etc/resolv.conf"
    file.touch()
    os.truncate(file, 100 << 30)
    with pod(root) as place:
        began = time.process_time()
        files = [read_pod_files(place) for _ in range(100)]
        assert time.process_time() - began < 0.5
    assert {item.resolv_errno for item in files} == {errno.EFBIG}


def test_a_file_swapped_while_it_is_read_never_gives_anything_else(root: Path) -> None:
    file, spare = root / "etc/resolv.conf", root / "etc/spare"
    file.write_bytes(CONTENT)
    ends = threading.Event()

    def swap() -> None:
        while not ends.is_set():
            for target in (root.parent / "secret", "../../secret", f"/proc/{os.getpid()}/root{root.parent}/secret"):
                spare.symlink_to(target)
                spare.replace(file)
            spare.write_bytes(CONTENT)
            spare.replace(file)

    with pod(root) as place:
        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            seen = {(item.resolv_errno, item.resolv_conf) for item in (read_pod_files(place) for _ in range(400))}
        finally:
            ends.set()
            swapper.join()
    assert (0, CONTENT) in seen
    assert {number for number, content in seen if content != CONTENT} <= {errno.ENOENT, errno.ELOOP, errno.EAGAIN, 0}
    assert {content for _, content in seen} <= {CONTENT, b""}


def test_only_the_very_process_is_read(root: Path) -> None:
    (root / "etc/resolv.conf").write_bytes(CONTENT)
    with pod(root) as place:
        assert read_pod_files(replace(place, started=place.started + 1)).resolv_errno == errno.ESTALE
    ended = read_pod_files(place)
    assert (ended.resolv_errno, ended.libc_errno) == (errno.ESTALE, errno.ESTALE)


def test_a_name_has_no_files() -> None:
    for place in (HOME, NamespaceRef(device=1, inode=2, path="/run/netns/x")):
        assert read_pod_files(place).resolv_errno == errno.EINVAL


def test_without_sys_ptrace_the_root_is_closed(root: Path) -> None:
    (root / "etc/resolv.conf").write_bytes(CONTENT)
    with pod(root) as place:

        def attempt() -> str:
            limit_capabilities(BROKER_CAPABILITIES & ~(1 << 19))
            files = read_pod_files(place)
            return f"{files.resolv_errno} {files.libc_errno} {files.resolv_conf!r}"

        assert run_forked(attempt) == f"{errno.EACCES} {errno.EACCES} b''"


def put(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"\x7fELF" + file.encode())


def test_which_c_libraries_stand_there(root: Path) -> None:
    assert read(root).libcs == ()
    put(root, MUSL_FILES[0])
    assert read(root).libcs == (InstalledLibc.MUSL,)
    put(root, f"lib/{os.uname().machine}-linux-gnu/libc.so.6")
    assert read(root).libcs == (InstalledLibc.GLIBC, InstalledLibc.MUSL)


def test_a_library_is_found_through_the_links_of_a_merged_usr(root: Path) -> None:
    folder, _, loader = GLIBC_FILES[0].partition("/")
    put(root, f"usr/{folder}/here/{loader}")
    (root / folder).symlink_to(f"usr/{folder}")
    (root / "usr" / folder / loader).symlink_to(f"/{folder}/here/{loader}")
    files = read(root)
    assert (files.libc_errno, files.libcs) == (0, (InstalledLibc.GLIBC,))


def test_alpines_compatibility_link_is_no_glibc(root: Path) -> None:
    put(root, MUSL_FILES[0])
    link = root / GLIBC_FILES[0]
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("/" + MUSL_FILES[0])
    assert read(root).libcs == (InstalledLibc.MUSL,)


def test_the_hosts_libraries_are_not_the_pods(root: Path) -> None:
    (root / "lib64").symlink_to("/usr/lib64")
    (root / "lib").symlink_to(f"/proc/{os.getpid()}/root/lib")
    files = read(root)
    assert (files.libc_errno, files.libcs) == (0, ())


def test_the_c_library_of_this_machine_is_recognised(root: Path) -> None:
    """Where this machine has it, with all the links that lead there."""
    mounts = [f"mkdir -p {root}{name} && mount --rbind {name} {root}{name}" for name in ("/usr", "/etc")]
    links = [f"cp -a {name} {root}/" for name in ("/lib", "/lib32", "/lib64") if Path(name).is_symlink()]
    mounts += [
        f"mkdir -p {root}{n} && mount --rbind {n} {root}{n}" for n in ("/lib", "/lib64") if not Path(n).is_symlink()
    ]
    script = " && ".join([*mounts, *links, f"exec chroot {root} sh -c 'echo; exec cat'"])
    with process("unshare", "--mount", "--propagation=private", "sh", "-c", script) as started:
        assert InstalledLibc.GLIBC in read_pod_files(place_of_pid(started.pid)).libcs


def test_a_process_that_still_has_the_hosts_root_is_not_read() -> None:
    """A runtime joins the pod's namespace and cgroup before it changes the root."""
    with process("unshare", "--net", "sh", "-c", "echo; exec cat") as young:
        assert read_pod_files(place_of_pid(young.pid)) == unreadable(errno.EAGAIN)
    with process(
        "unshare", "--net", "--mount", "sh", "-c", "echo; exec cat"
    ) as young:  # its own mounts, nothing else yet
        assert read_pod_files(place_of_pid(young.pid)) == unreadable(errno.EAGAIN)


@pytest.mark.parametrize("program", ["/pause", "/usr/bin/pod"])
def test_a_sandboxs_libraries_are_not_looked_for(root: Path, program: str) -> None:
    (root / "etc/resolv.conf").write_bytes(CONTENT)
    put(root, GLIBC_FILES[0])
    place_program(root, program)
    with process("chroot", str(root), program) as started:
        files = read_pod_files(place_of_pid(started.pid))
    assert files == PodFiles(resolv_errno=0, resolv_conf=CONTENT, libc_errno=0, libcs=(), sandbox=True)
