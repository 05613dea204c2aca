"""What the clients of the API server, of the digest and of other exporters share: trust, bounded reads and waits."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import aiohttp


def trust_as_go(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context: no strictness, and any certificate given as an authority, whatever Python's version.

    Since Python 3.13 `ssl.create_default_context` requires what RFC 5280 requires of certificates: keyUsage in an
    authority, an authority key identifier below it. Go's verification, which is that of kubectl, kubelet and every
    controller, requires neither, and distributions make authorities without them (MicroK8s). Chain, name and validity
    are verified as always. Probes of targets outside the cluster make contexts of their own (probes/tls.py).
    """
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, unpacked; of one that is longer than `limit` the first `limit` + 1 bytes."""
    try:
        return await response.content.readexactly(limit + 1)
    except asyncio.IncompleteReadError as error:
        return error.partial


def read_file(path: Path, limit: int) -> bytes | None:
    """The first bytes of a file, at most `limit`; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError:
        return None


async def happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within that time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
