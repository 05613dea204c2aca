"""Which pods each policy selects: selectors evaluated against an index of distinct label sets, never policy by pod. Pure.

Pods that share namespace and labels form one group (the replicas of a workload); an index by label, made only for the
keys that a selector asks for, gives the candidate groups. Used by assembly.build_inventory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.inventory.parse.policies import PolicyDraft
from exporter.inventory.parse.selectors import (
    EVERYTHING,
    NAMESPACE_LABEL,
    Every,
    Everything,
    Has,
    In,
    Selector,
    Some,
    matches,
    may_match,
)
from exporter.model.labels import EMPTY
from exporter.model.pod import Namespace, Pod
from exporter.model.policy import Policy

NAMESPACE_NAMES = ("kubernetes.io/metadata.name", "projectcalico.org/name")
ACCOUNT_NAME = "projectcalico.org/name"  # Calico gives it to every service account
CLUSTER = ""  # stands for "any namespace" in the index


@dataclass(slots=True, eq=False, kw_only=True)
class _PodGroup:
    """Pods of one namespace with equal labels."""

    namespace: str
    labels: Mapping[str, str]
    service_account: str
    keys: list[str] = field(default_factory=list)


class PodIndex:
    """Pods by namespace and label set, and the labels of namespaces."""

    def __init__(self, pods: Iterable[Pod], namespaces: Iterable[Namespace]) -> None:
        groups: dict[tuple[str, str, frozenset[tuple[str, str]]], _PodGroup] = {}
        for pod in pods:
            if pod.host_network:
                continue  # no policy reaches it
            identity = (pod.namespace, pod.service_account, frozenset(pod.labels.items()))
            group = groups.get(identity)
            if group is None:
                group = groups[identity] = _PodGroup(
                    namespace=pod.namespace, labels=pod.labels, service_account=pod.service_account
                )
            group.keys.append(pod.key)
        self._by_namespace: dict[str, list[_PodGroup]] = {CLUSTER: list(groups.values())}
        for group in groups.values():
            self._by_namespace.setdefault(group.namespace, []).append(group)
        self._namespace_labels = {each.name: each.labels for each in namespaces}
        self._postings: dict[tuple[str, str], dict[str, list[_PodGroup]]] = {}
        self._answers: dict[tuple[str, Selector, Selector, Selector], frozenset[str]] = {}

    def select(
        self, namespace: str, pods: Selector, namespaces: Selector, accounts: Selector = EVERYTHING
    ) -> frozenset[str]:
        """The namespace/name of the pods that the selectors take; `namespace` empty: of any namespace that `namespaces` takes."""
        question = (namespace, pods, namespaces, accounts)
        if question not in self._answers:
            allowed = None if namespace or isinstance(namespaces, Everything) else self._namespaces(namespaces)
            self._answers[question] = frozenset(
                key
                for group in self._candidates(namespace, pods)
                if (allowed is None or group.namespace in allowed) and _may_run_as(accounts, group.service_account)
                if self._takes(pods, group)
                for key in group.keys
            )
        return self._answers[question]

    def _takes(self, selector: Selector, group: _PodGroup) -> bool:
        def lookup(key: str) -> str | None:
            found = group.labels.get(key)
            return found if found is not None else self._implied(key, group)

        return matches(selector, lookup)

    def _implied(self, key: str, group: _PodGroup) -> str | None:
        """The labels that Calico and Cilium give an endpoint beyond the pod's own."""
        if key == NAMESPACE_LABEL:
            return group.namespace
        if key == "projectcalico.org/orchestrator":
            return "k8s"
        if key in ("projectcalico.org/serviceaccount", "io.cilium.k8s.policy.serviceaccount"):
            return group.service_account
        if key.startswith("pcns."):
            return self._labels_of(group.namespace).get(key.removeprefix("pcns."))
        return None

    def _labels_of(self, namespace: str) -> Mapping[str, str]:
        return self._namespace_labels.get(namespace, EMPTY)

    def _namespaces(self, selector: Selector) -> frozenset[str]:
        def takes(name: str) -> bool:
            labels = self._labels_of(name)
            return matches(selector, lambda key: name if key in NAMESPACE_NAMES else labels.get(key))

        return frozenset(name for name in self._by_namespace if name and takes(name))

    def _candidates(self, namespace: str, selector: Selector) -> Sequence[_PodGroup]:
        """Groups that may match: those the index gives, else all of the namespace."""
        indexed = self._indexed(namespace, selector)
        return self._by_namespace.get(namespace, []) if indexed is None else indexed

    def _indexed(self, namespace: str, selector: Selector) -> list[_PodGroup] | None:
        match selector:
            case In(key, values) if not _is_implied(key):
                posting = self._posting(namespace, key)
                return [group for value in values for group in posting.get(value, ())]
            case Has(key) if not _is_implied(key):
                return [group for groups in self._posting(namespace, key).values() for group in groups]
            case Every(parts):
                found = [each for each in (self._indexed(namespace, part) for part in parts) if each is not None]
                return min(found, key=len) if found else None
            case Some(parts):
                lists = [self._indexed(namespace, part) for part in parts]
                known = [each for each in lists if each is not None]
                return list({id(g): g for each in known for g in each}.values()) if len(known) == len(lists) else None
        return None

    def _posting(self, namespace: str, key: str) -> dict[str, list[_PodGroup]]:
        posting = self._postings.get((namespace, key))
        if posting is None:
            posting = self._postings[(namespace, key)] = {}
            for group in self._by_namespace.get(namespace, []):
                value = group.labels.get(key)
                if value is not None:
                    posting.setdefault(value, []).append(group)
        return posting


def _may_run_as(accounts: Selector, name: str) -> bool:
    """Whether pods of this service account may be meant, as far as its name tells."""
    if isinstance(accounts, Everything):
        return True
    return may_match(accounts, lambda _: name, lambda key: bool(name) and key == ACCOUNT_NAME)


def _is_implied(key: str) -> bool:
    return key.startswith(("projectcalico.org/", "pcns.", "io.cilium."))


def select_pods(
    drafts: Iterable[PolicyDraft], pods: Iterable[Pod], namespaces: Iterable[Namespace]
) -> tuple[Policy, ...]:
    """The drafts as policies, those that restrict egress with the pods they select."""
    drafts = sorted(drafts, key=lambda draft: draft.key)
    index = PodIndex(pods, namespaces) if any(draft.restricts for draft in drafts) else None
    return tuple(_settle(draft, index) for draft in drafts)


def _settle(draft: PolicyDraft, index: PodIndex | None) -> Policy:
    whole = all(isinstance(each, Everything) for each in (draft.pods, draft.namespaces, draft.accounts))
    selected: frozenset[str] = frozenset()
    if draft.restricts and not whole and draft.pods is not None and index is not None:
        selected = index.select(draft.namespace, draft.pods, draft.namespaces, draft.accounts)
    return Policy(
        kind=draft.kind,
        namespace=draft.namespace,
        name=draft.name,
        selects_all=whole,
        selected=selected,
        restricts_egress=draft.restricts,
        gaps=draft.gaps,
    )
