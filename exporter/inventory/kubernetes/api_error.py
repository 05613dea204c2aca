"""How a request to the API server can fail: the closed set, and which one an answer means. Pure.

The same failure has several forms: an HTTP status, a Status object instead of a list, an ERROR event inside a watch
that began with 200 (measured on kube-apiserver 1.36; Kubernetes API concepts, "410 Gone responses"). Callers get one
exception with one kind.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from exporter.inventory.parse.fields import mapping, number, objects, text

MAX_DETAIL = 300
MAX_BODY = 2000  # bytes of an answer that is no Status
MAX_RETRY_AFTER = 120.0


class ApiErrorKind(StrEnum):
    UNREACHABLE = "unreachable"  # no connection, or it broke
    STREAM_IDLE = "silent"  # the connection is open and nothing arrives
    EXPIRED = "expired"  # the requested version or page is gone: list again
    VERSION_AHEAD = "ahead"  # the requested version does not exist yet, or never did (etcd restored from a backup)
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "absent"
    UNAUTHORIZED = "unauthorized"
    REJECTED = "rejected"  # the request itself was not understood
    SERVER = "server"  # any other fault of the server
    MALFORMED = "malformed"  # the answer is not what the API promises


# About this resource only: retried seldom, unlike an outage.
REFUSALS = frozenset({ApiErrorKind.FORBIDDEN, ApiErrorKind.NOT_FOUND})


class ApiError(Exception):
    """A request that failed. `retry_after`: seconds to wait; `resume`: the token to continue an expired list with."""

    def __init__(self, kind: ApiErrorKind, detail: str, *, retry_after: float | None = None, resume: str = "") -> None:
        super().__init__(f"{kind}: {shortened(detail)}" if detail else str(kind))
        self.kind = kind
        self.retry_after = retry_after
        self.resume = resume


def one_line(error: BaseException) -> str:
    """What went wrong, for the log; of a certificate that is not trusted only why."""
    cause = getattr(error, "certificate_error", error)
    message = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(error)
    message = " ".join(message.split())
    return shortened(f"{type(error).__name__}: {message}") if message else type(error).__name__


def shortened(text: str) -> str:
    """At most MAX_DETAIL characters, from both ends: a text begins with what failed and ends with why."""
    if len(text) <= MAX_DETAIL:
        return text
    gap = " ... "
    kept = (MAX_DETAIL - len(gap)) // 2
    return f"{text[:kept]}{gap}{text[-kept:]}"


_BY_CODE = {
    **dict.fromkeys((400, 405, 406, 415, 422), ApiErrorKind.REJECTED),
    401: ApiErrorKind.UNAUTHORIZED,
    403: ApiErrorKind.FORBIDDEN,
    404: ApiErrorKind.NOT_FOUND,
    410: ApiErrorKind.EXPIRED,
    429: ApiErrorKind.THROTTLED,
}


def error_of_answer(code: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error of an HTTP answer with a status of 400 or more; its body may be a Status or plain text."""
    try:
        status = mapping(json.loads(body))
    except (ValueError, RecursionError):
        status = {}
    detail = text(status.get("message")) or body[:MAX_BODY].decode(errors="replace").strip()
    return _error(code, status, detail, _seconds(headers.get("Retry-After")))


def error_of_status(source: object) -> ApiError:
    """The error of a Status object, as ERROR events have it."""
    status = mapping(source)
    return _error(number(status.get("code")) or 500, status, text(status.get("message")), None)


def _error(code: int, status: Mapping[str, Any], detail: str, retry_after: float | None) -> ApiError:
    details = mapping(status.get("details"))
    kind = _BY_CODE.get(code, ApiErrorKind.SERVER)
    if any(each.get("reason") == "ResourceVersionTooLarge" for each in objects(details.get("causes"))):
        kind = ApiErrorKind.VERSION_AHEAD
    if retry_after is None:
        retry_after = _seconds(number(details.get("retryAfterSeconds")))
    resume = text(mapping(status.get("metadata")).get("continue")) if kind is ApiErrorKind.EXPIRED else ""
    return ApiError(kind, f"{code} {detail}".strip(), retry_after=retry_after, resume=resume)


def _seconds(value: object) -> float | None:
    """Retry-After as seconds (the API server does not use its date form), bounded."""
    seconds = number(value)
    return None if seconds is None or seconds < 0 else min(float(seconds), MAX_RETRY_AFTER)
