"""The files that a configuration stands in or names: the only place where configuration is read from the file system.

Files may be symbolic links (a ConfigMap's are), but must end at a regular file of bounded size: a FIFO would never be
done reading.
"""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

from exporter.config.document import LARGEST, Fault, quote

LARGEST_CA_FILE = 4 * 1024 * 1024  # the system's whole bundle is about 220 KiB


def read_bounded(path: str, *, key: str = "", most: int = LARGEST) -> bytes:
    """The bytes of a regular file. What hinders it is a Fault at `key`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name holds a null byte"
        raise Fault(key, f"{_show(path)} cannot be read: {reason}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Fault(key, f"{_show(path)} is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:  # Path opens no descriptors
            data = file.read(most + 1)
    except OSError as error:
        raise Fault(key, f"{_show(path)} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise Fault(key, f"{_show(path)} is larger than {most // 1024} KiB")
    return data


def resolve_file(name: str, beside: str) -> str:
    """The absolute path of a file named in the configuration file `beside`: relative names start at its directory. Empty stays empty."""
    return str(Path(beside).parent.joinpath(name).absolute()) if name else ""


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
