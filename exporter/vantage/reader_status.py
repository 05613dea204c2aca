"""How the inspection's readers fared, as Readings: one for the namespaces, one for all pods, one for their files. Pure."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from exporter.broker.protocol.messages import Welcome
from exporter.broker.server.privilege import missing_capabilities
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


def reading_of_listing(refused: int, vantages: Sequence[Vantage], welcome: Welcome, seconds: float) -> ReaderStatus:
    """A failure where refusals hide something: pods whose namespace was not found, or everything for want of a capability.

    A single process of a foreign user namespace may refuse (the init of a sandbox does), and hides no pod.
    """
    powerless = "SYS_PTRACE" in missing_capabilities(welcome.capabilities)
    hidden = any(v.state is PodState.UNREADABLE for v in vantages)
    if not refused or not (powerless or hidden):
        return ReaderStatus(reader=Reader.NAMESPACES, success=True, seconds=seconds)
    reason = Reason.NO_PERMISSION if powerless else reason_of_file(errno.EACCES, welcome.lsm)
    detail = f"{refused} processes' namespaces could not be read" + (" (SYS_PTRACE is missing)" if powerless else "")
    return ReaderStatus(reader=Reader.NAMESPACES, success=False, seconds=seconds, reason=reason, detail=detail)


def readings_of_pods(readings: Sequence[ReaderStatus]) -> tuple[ReaderStatus, ...]:
    """One reading for all pods: failed if any failed, with the first reason; the seconds add up."""
    if not readings:
        return ()
    failed = next((r for r in readings if not r.success), None)
    seconds = sum(r.seconds for r in readings)
    if failed is None:
        return (ReaderStatus(reader=Reader.PODS, success=True, seconds=seconds),)
    return (
        ReaderStatus(reader=Reader.PODS, success=False, seconds=seconds, reason=failed.reason, detail=failed.detail),
    )


def readings_of_files(
    pods: Sequence[PodView], seconds: float, *, silent: Sequence[str] = (), unasked: int = 0
) -> tuple[ReaderStatus, ...]:
    """How the pods' resolv.conf files were read. One that is missing, too large or no file at all is the pod's own doing.

    So is one whose file system does not answer (`silent`), until others go unread for it (`unasked`).
    """
    seen = [p for p in pods if p.resolv_conf is not None or p.resolv_conf_unread]
    if not seen:
        return ()
    refused = [p for p in seen if p.resolv_conf_unread in {Reason.NO_PERMISSION, Reason.LSM}]
    if refused:
        reason, detail = refused[0].resolv_conf_unread, f"that of {len(refused)} pods could not be read"
        return (ReaderStatus(reader=Reader.RESOLV_CONF, success=False, seconds=seconds, reason=reason, detail=detail),)
    detail = f"no answer from the file systems of {shorten(silent)}" if silent else ""
    if unasked:
        detail = f"{detail or 'too many file systems do not answer'}; so those of {unasked} pods were not read"
        return (
            ReaderStatus(
                reader=Reader.RESOLV_CONF, success=False, seconds=seconds, reason=Reason.READER_FAILED, detail=detail
            ),
        )
    return (ReaderStatus(reader=Reader.RESOLV_CONF, success=True, seconds=seconds, detail=detail),)


def shorten(subjects: Sequence[str]) -> str:
    """Some of them by name, and how many more."""
    more = len(subjects) - NAMED
    return ", ".join(subjects[:NAMED]) + (f" and {more} more" if more > 0 else "")
