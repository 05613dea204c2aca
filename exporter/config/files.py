"""Configuration files and the files that they name: the only module of config that reads the file system.

Files may be symbolic links (a ConfigMap's are) to a regular file of bounded size; reading a FIFO would never end.
"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from exporter.config.document import LARGEST, Fault, quote

LARGEST_CA_FILE = 4 * 1024 * 1024  # the system's whole bundle is about 220 KiB


def read_bounded(path: str, *, key: str = "", most: int = LARGEST) -> bytes:
    """The bytes of a regular file; a Fault at `key` where they cannot be read."""
    try:
        with open(
            path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
        ) as file:  # a FIFO too opens at once
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data = file.read(most + 1) if regular else b""
    except IsADirectoryError:
        regular, data = False, b""
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name holds a null byte"
        raise Fault(key, f"{_show(path)} cannot be read: {reason}") from None
    if not regular:
        raise Fault(key, f"{_show(path)} is not a regular file")
    if len(data) > most:
        raise Fault(key, f"{_show(path)} is larger than {most // 1024} KiB")
    return data


def resolve_file(name: str, beside: str) -> str:
    """The absolute path of a file, relative to the directory of the configuration file `beside`. Empty stays empty."""
    return str(Path(beside).parent.joinpath(name).absolute()) if name else ""


def file_fingerprint(path: str) -> tuple[int, ...]:
    """A value that changes when a file is rewritten or a ConfigMap's symbolic link is swapped; empty without a file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - pathlib would resolve nothing more
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return ()
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def check_authorities(path: str, *, key: str) -> None:
    """Raise Fault at `key` unless the file holds at least one certificate in PEM that OpenSSL can parse."""
    pem = read_bounded(path, key=key, most=LARGEST_CA_FILE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        # Comments between certificates may be in any encoding; certificates are ASCII.
        context.load_verify_locations(cadata=pem.decode("ascii", "replace").encode("ascii", "replace").decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise Fault(key, f"{_show(path)} holds no certificate in PEM") from None


def _show(path: str) -> str:
    return path if path.isprintable() and " " not in path and len(path) <= 200 else quote(path)
