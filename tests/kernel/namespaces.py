"""Network namespaces for tests and labs: made together, entered by forked children, configured by batches, removed
together.

Nothing here knows Calico. Names are unique per process and lab; what a lab made is gone when it is closed.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

_COUNTER = itertools.count()
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_SIOCETHTOOL = 0x8946
_OFFLOADS = (0x1F, 0x24, 0x2C)  # ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO


def unique_prefix() -> str:
    """A prefix for the names of one lab's namespaces."""
    return f"ds{os.getpid():x}-{next(_COUNTER)}-"


def path_of(namespace: str) -> str:
    return f"/run/netns/{namespace}"


def enter(namespace: str) -> None:
    """Move this process into a namespace. For forked children alone: there is no way back."""
    with Path(path_of(namespace)).open("rb") as file:
        if _LIBC.setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), namespace)


def run(*argv: str, text: str = "") -> str:
    """Run a command, and say what it said when it fails."""
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        numbered = "\n".join(f"{i + 1}: {line}" for i, line in enumerate(text.splitlines()))
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}\n{numbered}")
    return done.stdout


def run_inside(namespace: str, *argv: str, text: str = "") -> str:
    """Run a command in a namespace."""
    return run("nsenter", f"--net={path_of(namespace)}", *argv, text=text)


def start_inside(namespace: str, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a long-lived command in a namespace. The caller ends it."""
    return subprocess.Popen(["nsenter", f"--net={path_of(namespace)}", *argv], **options)


def batch(scripts: Mapping[str, Iterable[str]], program: str = "ip") -> None:
    """Run one `ip -batch` (or bridge) per namespace, all at once; "" is this process's own namespace."""
    started = []
    for namespace, lines in scripts.items():
        text = "".join(f"{line}\n" for line in lines)
        if text:
            where = ["-n", namespace] if namespace else []
            argv = [program, *where, "-batch", "-"]
            started.append(
                (text, subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            )
            stdin = started[-1][1].stdin
            assert stdin is not None
            stdin.write(text.encode())
            stdin.close()
            started[-1][1].stdin = None
    failures = []
    for text, each in started:
        _, errors = each.communicate()
        if each.returncode:
            failed = int(errors.decode().rsplit(":", 1)[1]) - 1  # "Command failed -:5"
            failures.append(f"{errors.decode().strip()}: {text.splitlines()[failed]}")
    if failures:
        raise RuntimeError("\n".join(failures))


def create(namespaces: Iterable[str]) -> None:
    batch({"": [f"netns add {name}" for name in namespaces]})


def delete(namespaces: Iterable[str]) -> None:
    """Remove the names; the kernel removes each namespace when its last process and socket is gone."""
    lines = [f"netns delete {name}" for name in namespaces if Path(path_of(name)).exists()]
    if lines:
        run("ip", "-force", "-batch", "-", text="".join(f"{line}\n" for line in lines))


def call_inside(namespace: str, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a forked child that has entered the namespace; its result is pickled back. "" for the own
    namespace.

    An exception of the child comes out here, by its text.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        status = 1
        try:
            if namespace:
                enter(namespace)
            answer = (True, function(*arguments))
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent is told, and nothing of this copy may run on
            answer = (False, repr(error))  # type: ignore[assignment]
        with os.fdopen(writer, "wb") as output:
            pickle.dump(answer, output)
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as source:
        data = source.read()
    os.waitpid(child, 0)
    if not data:
        raise RuntimeError("the child said nothing")
    good, value = pickle.loads(data)
    if not good:
        raise RuntimeError(value)
    result: Result = value
    return result


def configure(
    settings: Mapping[str, Mapping[str, object]], offloads: Mapping[str, Iterable[str]] | None = None
) -> None:
    """Write sysctls, by namespace and path below /proc/sys, and switch segmentation offloads of links off: one child
    for all.
    """
    call_inside(
        "", _configure, {k: dict(v) for k, v in settings.items()}, {k: list(v) for k, v in (offloads or {}).items()}
    )


def _configure(settings: Mapping[str, Mapping[str, object]], offloads: Mapping[str, Iterable[str]]) -> None:
    for namespace in {*settings, *offloads}:
        enter(namespace)
        for path, value in settings.get(namespace, {}).items():
            Path("/proc/sys", path).write_text(str(value))
        for link in offloads.get(namespace, ()):
            _switch_offloads_off(link)


def _switch_offloads_off(link: str) -> None:
    """ETHTOOL_STSO and its like: veth lets super-packets pass its MTU, and an MTU fault would not bite."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in _OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
            request = struct.pack("16sP16x", link.encode(), ctypes.addressof(value))
            fcntl.ioctl(sock, _SIOCETHTOOL, request)


def python_inside(namespace: str, code: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start a Python program in a namespace."""
    return start_inside(namespace, sys.executable, "-c", code, *arguments, **options)
