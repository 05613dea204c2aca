"""What changes when a file does: rewritten, or the symlink of a ConfigMap swapped above it. For those who watch files."""

from __future__ import annotations

import os


def stamp_of(path: str) -> tuple[int, ...]:
    """What changes when the file does; empty where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - pathlib would resolve nothing more
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return ()
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
