"""What the API server answers when it cannot do what it is asked, worded as it words it (recorded under
tests/data/kubernetes/error).
"""

from __future__ import annotations

import base64
import json
from typing import Any

from aiohttp import web


def status(code: int, reason: str, message: str, **more: Any) -> web.Response:
    """A Status object."""
    headers = more.pop("headers", {})
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": more.pop("metadata", {}),
        "status": "Failure",
        "message": message,
    }
    return web.json_response(body | {"reason": reason, "code": code} | more, status=code, headers=headers)


def not_found() -> web.Response:
    return web.Response(status=404, text="404 page not found\n")


def forbidden(verb: str, resource: str, group: str) -> web.Response:
    who = 'User "system:serviceaccount:monitoring:exporter"'
    return status(
        403, "Forbidden", f'{resource} is forbidden: {who} cannot {verb} resource "{resource}" in API group "{group}"'
    )


def too_new(asked: int, current: int) -> web.Response:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    return status(
        504, "Timeout", f"Timeout: Too large resource version: {asked}, current: {current}",
        details={"causes": causes, "retryAfterSeconds": 1}, headers={"Retry-After": "1"},
    )  # fmt: skip


def expired_page(token: str) -> web.Response:
    return status(410, "Expired", "The provided continue parameter is too old", metadata={"continue": token})


def expired_watch(since: int, oldest: int) -> bytes:
    message = f"too old resource version: {since} ({oldest})"
    gone = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Expired",
    }
    return json.dumps({"type": "ERROR", "object": gone | {"code": 410}}).encode() + b"\n"


def token_of(version: int, start: str) -> str:
    return base64.urlsafe_b64encode(
        json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start}).encode()
    ).decode()
