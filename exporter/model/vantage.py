"""Places to probe from: the host's network namespace and each pod's. Made by vantage/pod_namespaces.py for the plan."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from exporter.model.family import FAMILIES, Address, Family
from exporter.model.subject import Subject, SubjectKind


class PodState(StrEnum):
    """Whether a pod is probed from, and why not; the label `state` of dualstack_pods."""

    ELIGIBLE = "eligible"
    HOST_NETWORK = "host_network"
    TERMINATING = "terminating"
    STARTING = "starting"
    NOT_RUNNING = "not_running"
    SANDBOXED = "sandboxed"
    INTERCEPTED = "intercepted"
    OPTED_OUT = "opted_out"
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Netns:
    """A network namespace by its nsfs file, and the way to it: a pid or a path; neither for the host's own."""

    device: int
    inode: int
    pid: int = 0
    started: int = 0  # start time of the process, to notice that its pid was reused
    path: str = ""  # of a named namespace

    @property
    def key(self) -> tuple[int, int]:
        return (self.device, self.inode)


@dataclass(frozen=True, kw_only=True)
class Vantage:
    """One place to probe from. `kind` is the label `vantage`; `subject` names it in reports."""

    kind: str  # host | pod
    namespace: str  # "" for the host and for named namespaces
    name: str
    netns: Netns | None  # None: known from the inventory, its namespace not found
    state: PodState = PodState.ELIGIBLE
    families: tuple[Family, ...] = FAMILIES  # those it is meant to have
    uid: str = ""
    addresses: tuple[Address, ...] = ()

    @cached_property
    def subject(self) -> Subject:
        if self.kind == "host":
            return Subject.of(SubjectKind.NODE, self.name)
        return Subject.of(SubjectKind.POD, *filter(None, (self.namespace, self.name)))

    @cached_property
    def key(self) -> str:
        """Stable over rounds for one life of the pod: its uid where known, else subject and namespace inode."""
        if self.kind == "host":
            return "host"
        return self.uid or f"{self.subject}#{self.netns.inode if self.netns else 0}"
