"""How the readers of the inspection did: one status for the namespaces, one for all pods, one for their files. Pure."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

from exporter.broker.protocol.messages import Welcome
from exporter.broker.server.privilege import missing_capabilities
from exporter.diagnosis.engine.preconditions import listed
from exporter.model.facts import Reader, ReaderStatus
from exporter.model.reason import Reason
from exporter.model.report import PodView
from exporter.model.vantage import PodState, Vantage

NAMED = 5  # pods of one detail


def is_confined(label: str) -> bool:
    """Whether a security module's label of the broker names a profile."""
    return label not in {"", "unconfined"} and not label.endswith("unconfined_t:s0")


def reason_of_file(number: int, lsm: str) -> Reason:
    """Why a file or a namespace link could not be opened, by errno. `lsm`: the broker's label."""
    if number in {errno.EACCES, errno.EPERM}:
        return Reason.LSM if is_confined(lsm) else Reason.NO_PERMISSION
    return Reason.READER_FAILED


def _status(reader: Reader, seconds: float, reason: Reason | None = None, detail: str = "") -> ReaderStatus:
    return ReaderStatus(reader=reader, success=reason is None, seconds=seconds, reason=reason, detail=detail)


def status_of_listing(refused: int, vantages: Sequence[Vantage], welcome: Welcome, seconds: float) -> ReaderStatus:
    """A failure where refusals hide something: pods whose namespace was not found, or all for lack of a capability.

    A single process of a foreign user namespace may refuse (the init of a sandbox does), and hides no pod.
    """
    powerless = "SYS_PTRACE" in missing_capabilities(welcome.capabilities)
    hidden = any(v.state is PodState.UNREADABLE for v in vantages)
    if not refused or not (powerless or hidden):
        return _status(Reader.NAMESPACES, seconds)
    reason = Reason.NO_PERMISSION if powerless else reason_of_file(errno.EACCES, welcome.lsm)
    detail = f"{refused} processes' namespaces could not be read" + (" (SYS_PTRACE is missing)" if powerless else "")
    return _status(Reader.NAMESPACES, seconds, reason, detail)


def status_of_pods(statuses: Sequence[ReaderStatus]) -> tuple[ReaderStatus, ...]:
    """One for all pods, none without any: the first failure if there is one; the seconds add up."""
    shown = [status for status in statuses if not status.success] or statuses
    return tuple(replace(s, reader=Reader.PODS, seconds=sum(each.seconds for each in statuses)) for s in shown[:1])


def status_of_files(
    pods: Sequence[PodView], seconds: float, *, silent: Sequence[str] = (), unasked: int = 0
) -> tuple[ReaderStatus, ...]:
    """How the pods' resolv.conf files were read. A missing or too large one, or one that is no file, is no failure.

    Nor is one whose file system does not answer (`silent`), unless others go unread because of it (`unasked`).
    """
    if not any(p.resolv_conf is not None or p.resolv_conf_unread for p in pods):
        return ()
    refused = [p for p in pods if p.resolv_conf_unread in {Reason.NO_PERMISSION, Reason.LSM}]
    if refused:
        detail = f"that of {len(refused)} pods could not be read"
        return (_status(Reader.RESOLV_CONF, seconds, refused[0].resolv_conf_unread, detail),)
    detail = f"no answer from the file systems of {listed(silent, NAMED)}" if silent else ""
    if not unasked:
        return (_status(Reader.RESOLV_CONF, seconds, detail=detail),)
    detail = f"{detail or 'too many file systems do not answer'}; so those of {unasked} pods were not read"
    return (_status(Reader.RESOLV_CONF, seconds, Reason.READER_FAILED, detail),)
