"""How a request to the API server can fail: the closed set, and what an answer says of it. Pure.

The same trouble comes in several shapes: an HTTP status, a Status object instead of a list, an ERROR event inside a
watch that began with 200 (measured on kube-apiserver 1.36; Kubernetes API concepts, "410 Gone responses"). Whoever asks
sees one exception with one kind.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from exporter.inventory.parse.fields import mapping, number, text

MAX_DETAIL = 300
MAX_BODY = 2000  # bytes of an answer that is no Status
MAX_RETRY_AFTER = 120.0


class ApiErrorKind(StrEnum):
    UNREACHABLE = "unreachable"  # no connection, or it broke
    STREAM_IDLE = "silent"  # the connection stands and nothing comes
    EXPIRED = "expired"  # the version or the page asked for is gone: list again
    VERSION_AHEAD = "ahead"  # the version asked for is not there yet, or never was (etcd restored from a backup)
    THROTTLED = "throttled"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "absent"
    UNAUTHORIZED = "unauthorized"
    REJECTED = "rejected"  # the request itself was not understood
    SERVER = "server"  # any other fault of the server
    MALFORMED = "malformed"  # the answer is not what the API promises


# Said by the server about this resource: retried seldom, unlike an outage.
REFUSALS = frozenset({ApiErrorKind.FORBIDDEN, ApiErrorKind.NOT_FOUND})


class ApiError(Exception):
    """A request that failed. `retry_after`: seconds that the server asks to wait; `resume`: the token to continue an expired list with."""

    def __init__(self, kind: ApiErrorKind, detail: str, *, retry_after: float | None = None, resume: str = "") -> None:
        super().__init__(f"{kind}: {shortened(detail)}" if detail else str(kind))
        self.kind = kind
        self.retry_after = retry_after
        self.resume = resume


def one_line(error: BaseException) -> str:
    """What went wrong, for the log. Why a certificate is not trusted comes first: the HTTP client says it last, behind much else."""
    cause = getattr(error, "certificate_error", error)
    said = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(error)
    said = " ".join(said.split())
    return shortened(f"{type(error).__name__}: {said}") if said else type(error).__name__


def shortened(text: str) -> str:
    """At most MAX_DETAIL characters of it. What is left out stood in the middle: a text begins with what failed and ends with why."""
    if len(text) <= MAX_DETAIL:
        return text
    kept = (MAX_DETAIL - len(_GAP)) // 2
    return f"{text[:kept]}{_GAP}{text[-kept:]}"


_GAP = " ... "

_BY_CODE = {
    400: ApiErrorKind.REJECTED,
    401: ApiErrorKind.UNAUTHORIZED,
    403: ApiErrorKind.FORBIDDEN,
    404: ApiErrorKind.NOT_FOUND,
    405: ApiErrorKind.REJECTED,
    406: ApiErrorKind.REJECTED,
    410: ApiErrorKind.EXPIRED,
    415: ApiErrorKind.REJECTED,
    422: ApiErrorKind.REJECTED,
    429: ApiErrorKind.THROTTLED,
}


def error_of_answer(code: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The trouble that an HTTP answer with a status of 400 or more tells of; its body may be a Status or plain text."""
    try:
        status = mapping(json.loads(body))
    except (ValueError, RecursionError):
        status = {}
    detail = text(status.get("message")) or body[:MAX_BODY].decode(errors="replace").strip()
    return _error(code, status, detail, _seconds(headers.get("Retry-After")))


def error_of_status(source: object) -> ApiError:
    """The trouble that a Status object tells of, as ERROR events carry it."""
    status = mapping(source)
    return _error(number(status.get("code")) or 500, status, text(status.get("message")), None)


def _error(code: int, status: Mapping[str, Any], detail: str, retry_after: float | None) -> ApiError:
    details = mapping(status.get("details"))
    kind = _BY_CODE.get(code, ApiErrorKind.SERVER)
    causes = details.get("causes")
    reasons = {text(mapping(each).get("reason")) for each in causes} if isinstance(causes, list) else set()
    if "ResourceVersionTooLarge" in reasons:
        kind = ApiErrorKind.VERSION_AHEAD
    if retry_after is None:
        retry_after = _seconds(number(details.get("retryAfterSeconds")))
    resume = text(mapping(status.get("metadata")).get("continue")) if kind is ApiErrorKind.EXPIRED else ""
    return ApiError(kind, f"{code} {detail}".strip(), retry_after=retry_after, resume=resume)


def _seconds(value: object) -> float | None:
    """Retry-After as seconds (its date form is not used by the API server), within reason."""
    seconds = number(value)
    return None if seconds is None or seconds < 0 else min(float(seconds), MAX_RETRY_AFTER)
