"""How components were started: their arguments from pods, nodes, ConfigMaps and files, and the CNI configuration. Pure.

Called by core.py, configmaps.py and node_files.py. Only the arguments that decide about address families are kept.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from exporter.inventory.parse.fields import flag, items, mapping, name_of, net_list, number, objects, text, texts
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.family import Net, parse_net
from exporter.model.subject import Subject, SubjectKind

COMPONENTS = frozenset({"kube-apiserver", "kube-controller-manager", "kube-proxy", "kubelet"})
RELEVANT = frozenset((
    "service-cluster-ip-range", "cluster-cidr", "allocate-node-cidrs", "node-cidr-mask-size",
    "node-cidr-mask-size-ipv4", "node-cidr-mask-size-ipv6", "feature-gates", "node-ip", "bind-address", "proxy-mode",
    "ipvs-strict-arp", "detect-local-mode", "cluster-dns",
))  # fmt: skip
MAX_VALUE = 1024
MAX_ARGUMENTS = 500
MAX_NOTE = 64 << 10


def command_line(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Go's flags: --name=value, --name value, and --name without a value; one dash or two."""
    for word, following in pairwise([*words[:MAX_ARGUMENTS], "-"]):
        if word.startswith("-"):
            name, given, value = word.lstrip("-").partition("=")
            yield name, value if given else None if following.startswith("-") else following


def arguments_of(words: list[str]) -> dict[str, str]:
    """The relevant flags; one without a value is true. The last of a name wins."""
    found = {name: "true" if value is None else value for name, value in command_line(words) if name in RELEVANT}
    return {name: value.strip("\"'")[:MAX_VALUE] for name, value in found.items()}


def component_flags(container: Mapping[str, Any], *, pod: Subject, node: str = "") -> ComponentFlags | None:
    """The arguments of a container that runs a component directly; None for anything else (a shell hides them)."""
    words = [*texts(container.get("command")), *texts(container.get("args"))]
    program = words[0].rpartition("/")[2] if words else ""
    if program not in COMPONENTS:
        return None
    version = text(container.get("image")).partition("@")[0].rpartition(":")[2]
    arguments = arguments_of(words[1:])
    return ComponentFlags(component=program, source=pod, subject=pod, arguments=arguments, node=node, version=version)


def parse_arguments_file(content: str, *, component: str, path: str, node: str) -> ComponentFlags:
    """A MicroK8s arguments file: one flag a line, shell quoting, comments by #."""
    words: list[str] = []
    for line in content.splitlines()[:MAX_ARGUMENTS]:
        try:
            words += shlex.split(line, comments=True)
        except ValueError:  # an unclosed quote: the line as it is
            words += line.split()
    return ComponentFlags(component=component, source=path, arguments=arguments_of(words), node=node)


# The flags of `k3s server` that become flags of components. A component's own flags come as --COMPONENT-arg=NAME=VALUE.
NODE_ARGUMENTS = ("k3s.io/node-args", "rke2.io/node-args")
_SERVICE_RANGE = "service-cluster-ip-range"
_NODE_FLAGS = {"node-ip": (("kubelet", "node-ip"),), "cluster-dns": (("kubelet", "cluster-dns"),)}
_SERVER_FLAGS = _NODE_FLAGS | {
    "cluster-cidr": (("kube-controller-manager", "cluster-cidr"), ("kube-proxy", "cluster-cidr")),
    "service-cidr": (("kube-apiserver", _SERVICE_RANGE), ("kube-controller-manager", _SERVICE_RANGE)),
}


def parse_node_arguments(annotations: Mapping[str, Any], *, node: str) -> tuple[ComponentFlags, ...]:
    """How k3s and RKE2 were started, as they note it on a node: a JSON list of words, the first `server` or `agent`.

    Defaults are not among them (k3s issue 6516), and stay unknown.
    """
    return tuple(flags for key, words in noted_words(annotations).items() for flags in _noted(words, key, node))


def noted_words(annotations: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The command lines of k3s and RKE2 that a node's annotations have, by annotation."""
    found = {}
    for key in NODE_ARGUMENTS:
        note = annotations.get(key)
        if isinstance(note, str) and len(note) <= MAX_NOTE:
            try:
                found[key] = texts(json.loads(note))[:MAX_ARGUMENTS]
            except (ValueError, RecursionError):
                continue
    return found


def _noted(words: tuple[str, ...], key: str, node: str) -> Iterator[ComponentFlags]:
    known = _SERVER_FLAGS if words[:1] == ("server",) else _NODE_FLAGS
    given = [(name, value) for name, value in command_line([*words[1:]]) if value is not None]
    found: dict[str, dict[str, str]] = {component: {} for component in sorted(COMPONENTS)}
    for name, value in given:
        for component, argument in known.get(name, ()):
            # A list may be given in several flags.
            parts = (found[component].get(argument, ""), value)
            found[component][argument] = ",".join(part for part in parts if part)[:MAX_VALUE]
    if "cluster-cidr" in found["kube-controller-manager"]:
        found["kube-controller-manager"]["allocate-node-cidrs"] = "true"  # k3s: pkg/daemons/control/server.go
    for component, arguments in found.items():
        extra = ["--" + value.lstrip("-") for name, value in given if name == f"{component}-arg"]
        arguments.update(arguments_of(extra))
        if arguments:
            subject = Subject.of(SubjectKind.NODE, node)
            source = f"{subject} annotation {key}"
            yield ComponentFlags(component=component, source=source, subject=subject, arguments=arguments, node=node)


def parse_kubeadm(
    document: object, source: Subject
) -> tuple[tuple[ComponentFlags, ...], tuple[Net, ...], tuple[Net, ...]]:
    """A kubeadm ClusterConfiguration: the resulting arguments, the pod networks and the service networks.

    kubeadm turns networking.podSubnet and serviceSubnet into flags by itself; extraArgs (a map up to v1beta3, a list of
    name and value since v1beta4) override them.
    """
    fields = mapping(document)
    networking = mapping(fields.get("networking"))
    pods, services = text(networking.get("podSubnet")), text(networking.get("serviceSubnet"))
    shared = {"service-cluster-ip-range": services} if services else {}
    manager = {**shared, "cluster-cidr": pods, "allocate-node-cidrs": "true"} if pods else dict(shared)
    made = (("kube-apiserver", "apiServer", shared), ("kube-controller-manager", "controllerManager", manager))
    found = tuple(
        ComponentFlags(
            component=component,
            source=source,
            subject=source,
            arguments={**given, **_extra_arguments(mapping(fields.get(part)).get("extraArgs"))},
        )
        for component, part, given in made
    )
    return tuple(flags for flags in found if flags.arguments), net_list(pods), net_list(services)


def _extra_arguments(source: object) -> dict[str, str]:
    listed = [(text(each.get("name")), each.get("value")) for each in objects(source)]
    pairs = list(mapping(source).items()) or listed
    return {name: value[:MAX_VALUE] for name, value in pairs if name in RELEVANT and isinstance(value, str)}


def parse_kube_proxy(document: object, source: Subject) -> ComponentFlags | None:
    """A KubeProxyConfiguration, as the flags of the same meaning."""
    fields = mapping(document)
    if fields.get("kind") != "KubeProxyConfiguration":
        return None
    gates = {name_of(gate): flag(value) for gate, value in mapping(fields.get("featureGates")).items()}
    arguments = {
        "cluster-cidr": text(fields.get("clusterCIDR")),
        "detect-local-mode": text(fields.get("detectLocalMode")),
        "bind-address": text(fields.get("bindAddress")),
        "proxy-mode": text(fields.get("mode")),
        "feature-gates": ",".join(f"{gate}={str(value).lower()}" for gate, value in gates.items() if gate),
    }
    return ComponentFlags(
        component="kube-proxy",
        source=source,
        subject=source,
        arguments={name: value[:MAX_VALUE] for name, value in arguments.items() if value},
    )


def parse_kubelet(document: object, source: Subject) -> ComponentFlags | None:
    """The clusterDNS of a KubeletConfiguration, as the flag of the same meaning."""
    fields = mapping(document)
    if fields.get("kind") != "KubeletConfiguration" or not texts(fields.get("clusterDNS")):
        return None
    arguments = {"cluster-dns": ",".join(texts(fields.get("clusterDNS")))[:MAX_VALUE]}
    return ComponentFlags(component="kubelet", source=source, subject=source, arguments=arguments)


# CNI configuration: the conflist of a node, and Calico's template of it in a ConfigMap. The template is not JSON until
# Calico's installer fills it in: __CNI_MTU__ is unquoted.

MAX_LENGTH = 1 << 20
MAX_POOLS = 50
_PLACEHOLDER = re.compile(r"(?<=[:\s\[,])__[A-Z0-9_]{1,64}__(?=\s*[,}\]])")


def parse_cni_config(content: str, *, source: str) -> CniConfig:
    """The main plugin's configuration. `source` is the file's path or configmap/NAMESPACE/NAME.

    Calico's assign_ipv4 and assign_ipv6 are strings; IPv4 is on unless "false", IPv6 is off unless "true", and a JSON
    boolean fails to parse (cni-plugin/pkg/types).
    """
    if len(content) > MAX_LENGTH:
        return CniConfig(source=source, error="larger than 1 MiB")
    try:
        document = json.loads(_PLACEHOLDER.sub("null", content))
    except ValueError as error:
        return CniConfig(source=source, error=f"not JSON: {str(error)[:200]}")
    except RecursionError:
        return CniConfig(source=source, error="not JSON: nested too deeply")
    fields = mapping(document)
    plugins = items(fields.get("plugins")) or [fields]
    main = mapping(plugins[0])
    if not text(main.get("type")):
        return CniConfig(source=source, error="it names no plugin")
    ipam = mapping(main.get("ipam"))
    v4, v6 = ipam.get("assign_ipv4"), ipam.get("assign_ipv6")
    given = {"assign_ipv4": v4, "assign_ipv6": v6}
    wrong = [name for name, value in given.items() if value is not None and not isinstance(value, str)]
    return CniConfig(
        source=source,
        main_plugin=text(main.get("type")),
        assign_ipv4=v4 != "false",
        assign_ipv4_text=_written(v4),
        assign_ipv6=v6 == "true",
        assign_ipv6_text=_written(v6),
        mtu=number(main.get("mtu")) or None,
        error=f"{' and '.join(wrong)} must be a string; Calico refuses the file" if wrong else "",
        ipam=text(ipam.get("type")),
        pools=_named((*texts(ipam.get("ipv4_pools")), *texts(ipam.get("ipv6_pools")))[:MAX_POOLS]),
    )


def _written(value: object) -> str | None:
    """A switch as written in the file."""
    if isinstance(value, str):
        return value[:40] if value.isprintable() else ascii(value)[:40]
    return None if value is None else json.dumps(value)[:40]


def _named(pools: Iterable[str]) -> tuple[str, ...]:
    """Pools as the configuration names them: by CIDR, written as in IPPool objects, or by name."""
    return tuple(found for found in (str(parse_net(each) or name_of(each)) for each in pools) if found)
