"""Which pods each policy selects: selectors evaluated on an index of distinct label sets, never policy by pod. Pure.

Pods of one namespace with equal labels form one group (the replicas of a workload); an index by label, made only for
the keys that a selector asks for, gives the candidate groups. Used by inventory_builder.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from exporter.inventory.parse.policies.kinds import PolicyDraft
from exporter.inventory.parse.selectors import NAMESPACE_LABEL
from exporter.model import EMPTY
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.cluster.policy import Policy
from exporter.model.cluster.selector import EVERYTHING, Every, Has, In, LabelExpression, Lookup, Not, Some, matches

NAMESPACE_NAMES = ("kubernetes.io/metadata.name", "projectcalico.org/name")
ACCOUNT_NAME = "projectcalico.org/name"  # Calico gives it to every service account
CLUSTER = ""  # the index's key for any namespace


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
                continue  # policies do not apply to it
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
        self._answers: dict[tuple[str, LabelExpression, LabelExpression, LabelExpression], frozenset[str]] = {}

    def select(
        self, namespace: str, pods: LabelExpression, namespaces: LabelExpression, accounts: LabelExpression
    ) -> frozenset[str]:
        """The namespace/name of the selected pods; `namespace` empty: of any namespace that `namespaces` selects."""
        question = (namespace, pods, namespaces, accounts)
        if question not in self._answers:
            allowed = None if namespace or namespaces == EVERYTHING else self._namespaces(namespaces)
            groups = self._indexed(namespace, pods)
            self._answers[question] = frozenset(
                key
                for group in (self._by_namespace.get(namespace, ()) if groups is None else groups)
                if (allowed is None or group.namespace in allowed) and _may_run_as(accounts, group.service_account)
                if matches(pods, self._labels(group))
                for key in group.keys
            )
        return self._answers[question]

    def _labels(self, group: _PodGroup) -> Lookup:
        """The pods' own labels, and those that Calico and Cilium give an endpoint."""

        def lookup(key: str) -> str | None:
            found = group.labels.get(key)
            if found is not None:
                return found
            if key.startswith("pcns."):
                return self._namespace_labels.get(group.namespace, EMPTY).get(key.removeprefix("pcns."))
            if key in ("projectcalico.org/serviceaccount", "io.cilium.k8s.policy.serviceaccount"):
                return group.service_account
            return {NAMESPACE_LABEL: group.namespace, "projectcalico.org/orchestrator": "k8s"}.get(key)

        return lookup

    def _namespaces(self, selector: LabelExpression) -> frozenset[str]:
        def takes(name: str) -> bool:
            labels = self._namespace_labels.get(name, EMPTY)
            return matches(selector, lambda key: name if key in NAMESPACE_NAMES else labels.get(key))

        return frozenset(name for name in self._by_namespace if name and takes(name))

    def _indexed(self, namespace: str, selector: LabelExpression) -> list[_PodGroup] | None:
        """The groups that may match as far as the index shows; None where it shows nothing."""
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


def _may_run_as(accounts: LabelExpression, name: str, *, wanted: bool = True) -> bool:
    """Whether the selector could match a service account of which only the name is known, or not (`wanted` false)."""
    match accounts:
        case Every(parts) | Some(parts):
            could = (_may_run_as(part, name, wanted=wanted) for part in parts)
            # All must match for Every, and all must fail for Some to fail.
            return all(could) if isinstance(accounts, Every) == wanted else any(could)
        case Not(part):
            return _may_run_as(part, name, wanted=not wanted)
    return not name or accounts.key != ACCOUNT_NAME or matches(accounts, lambda _: name) == wanted


def _is_implied(key: str) -> bool:
    return key.startswith(("projectcalico.org/", "pcns.", "io.cilium."))


def select_pods(
    drafts: Iterable[PolicyDraft], pods: Iterable[Pod], namespaces: Iterable[Namespace]
) -> tuple[Policy, ...]:
    """The drafts as policies, those that restrict egress with the pods they select."""
    drafts = sorted(drafts, key=lambda draft: draft.key)
    index = PodIndex(pods, namespaces) if any(draft.policy.restricts_egress for draft in drafts) else None
    return tuple(_selecting(draft, index) for draft in drafts)


def _selecting(draft: PolicyDraft, index: PodIndex | None) -> Policy:
    if draft.pods == draft.namespaces == draft.accounts == EVERYTHING:
        return replace(draft.policy, selects_all=True)
    if not draft.policy.restricts_egress or draft.pods is None or index is None:
        return draft.policy
    selected = index.select(draft.policy.namespace, draft.pods, draft.namespaces, draft.accounts)
    return replace(draft.policy, selected=selected)
