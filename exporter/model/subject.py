"""What a cause affects or a dial goes to: KIND/NAME or KIND/NAMESPACE/NAME (docs/specification.md section 1). Pure.

A Subject is its own text, so that it sorts, hashes and is written as such. It is built and taken apart here only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.model.family import Family


class SubjectKind(StrEnum):
    """The closed set of kinds, the first part of a subject."""

    NODE = "node"
    POD = "pod"
    PEER = "peer"
    TARGET = "target"
    SERVER = "server"
    POOL = "pool"
    SERVICE = "service"
    POLICY = "policy"
    CONFIGMAP = "configmap"


NAMESPACED = frozenset({SubjectKind.POD, SubjectKind.SERVICE, SubjectKind.POLICY, SubjectKind.CONFIGMAP})


class Subject(str):
    """One subject. A server's label may contain a slash and has no namespace."""

    __slots__ = ()

    @classmethod
    def of(cls, kind: SubjectKind, *names: str) -> Subject:
        """`names` are its namespace, where there is one, and its name, or both as NAMESPACE/NAME."""
        return cls("/".join((kind, *names)))

    @property
    def kind(self) -> SubjectKind:
        """ValueError for a text of another kind, which only a foreign document can contain."""
        return SubjectKind(self.partition("/")[0])

    def is_a(self, *kinds: SubjectKind) -> bool:
        return self.partition("/")[0] in kinds

    @property
    def rest(self) -> str:
        """NAME, or NAMESPACE/NAME."""
        return self.partition("/")[2]

    @property
    def namespace(self) -> str:
        namespace, slash, _ = self.rest.partition("/")
        return namespace if slash and self.is_a(*NAMESPACED) else ""

    @property
    def name(self) -> str:
        return self.rest.removeprefix(f"{self.namespace}/") if self.namespace else self.rest


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """A vantage and a destination, both as subjects, and the family between them: what explanation goes by."""

    vantage: Subject
    destination: Subject
    family: Family
