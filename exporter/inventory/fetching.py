"""What the clients of the API server, of the digest and of other exporters share: a bounded body, a bounded wait."""

from __future__ import annotations

import asyncio

import aiohttp


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes | None:
    """The whole body, unpacked; None where it is longer than `limit`."""
    try:
        await response.content.readexactly(limit + 1)
    except asyncio.IncompleteReadError as error:
        return error.partial
    return None


async def happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within that time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
