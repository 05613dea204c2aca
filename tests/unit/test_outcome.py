"""The one table from errors to outcomes, as a table."""

from __future__ import annotations

import errno
import os
import ssl

import pytest

from exporter.model.probe import LookupOutcome, Outcome
from exporter.probes.outcome import DETAIL_LIMIT, LOOKUPS, PhaseError, describe, lookup_outcome_of, outcome_of
from exporter.probes.ports import NoSocketError


def certificate_error(code: int, message: str = "x") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code = code
    error.verify_message = message
    return error


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


TABLE = [
    (os_error(errno.ECONNREFUSED), Outcome.REFUSED, LookupOutcome.UNREACHABLE),
    (os_error(errno.ECONNRESET), Outcome.RESET, LookupOutcome.UNREACHABLE),
    (os_error(errno.EPIPE), Outcome.RESET, LookupOutcome.UNREACHABLE),
    (os_error(errno.ECONNABORTED), Outcome.RESET, LookupOutcome.UNREACHABLE),
    (os_error(errno.ENETUNREACH), Outcome.UNREACHABLE, LookupOutcome.UNREACHABLE),
    (os_error(errno.EHOSTUNREACH), Outcome.UNREACHABLE, LookupOutcome.UNREACHABLE),
    (os_error(errno.ENETDOWN), Outcome.UNREACHABLE, LookupOutcome.UNREACHABLE),
    (os_error(errno.EADDRNOTAVAIL), Outcome.UNREACHABLE, LookupOutcome.UNREACHABLE),
    (os_error(errno.EINVAL), Outcome.UNREACHABLE, LookupOutcome.UNREACHABLE),
    (os_error(errno.EACCES), Outcome.PROHIBITED, LookupOutcome.UNREACHABLE),
    (os_error(errno.EPERM), Outcome.PROHIBITED, LookupOutcome.UNREACHABLE),
    (os_error(errno.ETIMEDOUT), Outcome.TIMEOUT, LookupOutcome.TIMEOUT),
    (TimeoutError(), Outcome.TIMEOUT, LookupOutcome.TIMEOUT),
    (os_error(errno.EMSGSIZE), Outcome.TOO_BIG, LookupOutcome.UNREACHABLE),
    (os_error(errno.ESTALE), Outcome.VANISHED, LookupOutcome.NOT_ASKED),
    (os_error(errno.ENOBUFS), Outcome.LOCAL, LookupOutcome.NOT_ASKED),
    (os_error(errno.EAGAIN), Outcome.LOCAL, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.EPERM), Outcome.NO_PERMISSION, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.EACCES), Outcome.NO_PERMISSION, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.ESTALE), Outcome.VANISHED, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.ENOENT), Outcome.VANISHED, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.ESRCH), Outcome.VANISHED, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.EMFILE), Outcome.LOCAL, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.EADDRINUSE), Outcome.LOCAL, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.EADDRNOTAVAIL), Outcome.LOCAL, LookupOutcome.NOT_ASKED),
    (NoSocketError(errno.EAFNOSUPPORT), Outcome.UNREACHABLE, LookupOutcome.UNREACHABLE),
    (PhaseError(Outcome.PROTOCOL, "x"), Outcome.PROTOCOL, LookupOutcome.MALFORMED),
]


@pytest.mark.parametrize(("error", "outcome", "lookup"), TABLE, ids=repr)
def test_the_table(error: PhaseError | NoSocketError | OSError, outcome: Outcome, lookup: LookupOutcome) -> None:
    assert outcome_of(error) is outcome
    assert lookup_outcome_of(error) is lookup


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (9, Outcome.TLS_EXPIRED),
        (10, Outcome.TLS_EXPIRED),
        (18, Outcome.TLS_CHAIN),
        (19, Outcome.TLS_CHAIN),
        (20, Outcome.TLS_CHAIN),
        (62, Outcome.TLS_NAME),
        (64, Outcome.TLS_NAME),
    ],
)
def test_why_a_certificate_was_not_believed(code: int, outcome: Outcome) -> None:
    assert outcome_of(certificate_error(code)) is outcome


def test_an_ssl_errors_number_is_not_an_errno() -> None:
    assert outcome_of(ssl.SSLError(errno.EPERM, "wrong version number")) is Outcome.TLS_PROTOCOL


@pytest.mark.parametrize("error", [OSError(errno.EBADF, "x"), OSError("no number"), NoSocketError(errno.EBADF)])
def test_what_no_table_knows_is_a_bug_and_is_raised(error: OSError | NoSocketError) -> None:
    with pytest.raises(type(error)):
        outcome_of(error)


def test_every_outcome_that_an_error_can_have_has_a_lookup_outcome() -> None:
    assert {outcome for _, outcome, _ in TABLE} <= set(LOOKUPS)


def test_detail_is_one_bounded_printable_line() -> None:
    assert describe(PhaseError(Outcome.PROTOCOL, "a\r\n\x1b[31mb" + "c" * 1000)).startswith("a???[31mbccc")
    assert len(describe(PhaseError(Outcome.PROTOCOL, "c" * 1000))) == DETAIL_LIMIT
    assert describe(certificate_error(10, "certificate has expired")) == "certificate has expired"
    assert describe(os_error(errno.ECONNREFUSED)) == "Connection refused"
    assert describe(TimeoutError()) == ""
