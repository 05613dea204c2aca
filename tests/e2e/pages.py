"""From a fault in the lab to the page it sends: exporters in the lab's nodes, Prometheus, Alertmanager and what
receives its notifications.

Everything is real and stands as it is shipped: rules, relabelling, routing and inhibition. One thing is changed: time.
A minute of the rules and of the routing takes MINUTE seconds (alerting.py), and so does one of the exporters' rounds:
Prometheus evaluates and exporters look every half minute as they do by default. A round may still ask as many DNS
questions. Every receiver is the same webhook.

Prometheus, Alertmanager and the webhook stand in the lab's gateway, from which the nodes are reached over the fabric.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.e2e.alerting import ALERTS, Alertmanager, scaled, scaled_rules
from tests.e2e.daemon import ROOT, Daemon
from tests.e2e.hastened_exporter import FROM_API
from tests.e2e.inside import Inside, PodInfo, PrometheusInside, pod_info
from tests.kernel import namespaces
from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import LabNode
from tests.kernel.calico_rules import NatInput
from tests.lab.cluster import Cluster
from tests.lab.dataplanes import ServingLab
from tests.lab.objects import Object, pick

MINUTE = 4.0  # seconds that a minute of the rules and of the routing takes
EVERY = "1s"
PORT = 10046
PATIENCE = 240.0
PACE = {"interval": "2s", "timeout": "1900ms"}  # in good health a round takes a third of a second
WATCHDOG = "DualstackWatchdog"


@dataclass(frozen=True)
class Page:
    """What was told of one alert. `node` is empty where it concerns the cluster."""

    receiver: str
    alert: str
    node: str = ""
    status: str = "firing"


class LabOfHosts(ServingLab):
    """The exporter's Service leads to the nodes themselves, as that of the manifests does: its pods are on the host's
    network.

    Something that is never restarted answers there: kube-proxy takes an endpoint away before its pod goes.
    """

    def nat_input(self, *, six: bool) -> NatInput:
        return replace(
            super().nat_input(six=six), endpoints=tuple(n.address6 if six else n.address4 for n in self.nodes)
        )


def endpoints_on_hosts(lab: Lab) -> Callable[[list[Object]], object]:
    def edit(objects: list[Object]) -> None:
        for family in ("ipv4", "ipv6"):
            pick(objects, "EndpointSlice", f"web-{family}")["endpoints"] = [
                {"addresses": [n.address6 if family == "ipv6" else n.address4], "conditions": {"ready": True}}
                for n in lab.nodes
            ]

    return edit


def last_pod(node: LabNode) -> LabNode:
    """The node as a fault of the lab takes it that shall break the last pod, which serves nobody."""
    return replace(node, pods=node.pods[::-1])


class Stack:
    """Enter it to start everything; all exporters are ready then, and Prometheus has scraped them."""

    def __init__(self, *, asks_dns: bool = False) -> None:
        """`asks_dns`: the cluster role asks the cluster DNS, as in a cluster; it does not with objects from a file."""
        self.cluster = Cluster(lab=LabOfHosts(), roles=("node", "cluster"))
        self._live = {FROM_API: "1"} if asks_dns else {}
        self.exporters: dict[str, Daemon] = {}  # by node; "" is the cluster role
        self._stopped: list[LabNode | None] = []
        self._configs: dict[str, str] = {}  # what they were before they were spoilt, by node
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def _start(self) -> None:
        self._open.enter_context(self.cluster)
        for node in self.cluster.lab.nodes:
            self.cluster.lab.start(
                node.netns, sys.executable, "-m", "tests.lab.listener", "8080", cwd=ROOT, stdout=subprocess.DEVNULL
            )
        self.heal()
        lab = self.cluster.lab
        if self._live:
            (last,) = (node for node in lab.nodes if lab.resolver in node.pods)
            routes = [(lab.resolver.address4, last.address4), (lab.resolver.address6, last.address6)]
            namespaces.batch({lab.gateway: [f"route add {pod} via {node}" for pod, node in routes]})
        self._place = Inside(lab.gateway)
        self._open.callback(self._place.close)
        self._pod_info = PodInfo(self._place, pod_info(lab))
        self._open.callback(self._pod_info.close)
        self._alertmanager = Alertmanager(MINUTE)
        self._place.call(self._alertmanager.__enter__)
        self._open.callback(self._place.call, self._alertmanager.__exit__, None, None, None)
        for each in (*lab.nodes, None):
            self.start_exporter(each)
        self._open.callback(self._stop_exporters)
        self._directory = Path(self._open.enter_context(tempfile.TemporaryDirectory(prefix="dualstack-pages-test-")))
        self.prometheus = PrometheusInside(lab.gateway, self._place, self._prometheus_config(), MINUTE)
        self._open.enter_context(self.prometheus)
        self.wait_rounds()

    # exporters

    def start_exporter(self, node: LabNode | None) -> None:
        """The node's, or with None that of the cluster role, which stands in the gateway."""
        self.exporters[node.name if node else ""] = Daemon(
            self._config(node),
            port=PORT,
            prefix=("ip", "netns", "exec", node.netns if node else self.cluster.lab.gateway),
            command=(sys.executable, "-m", "tests.e2e.hastened_exporter"),
            environment=None if node else self._live,
        )  # fmt: skip

    def _config(self, node: LabNode | None) -> str:
        role, at = ("node", node) if node else ("cluster", self.cluster.node)
        settings = yaml.safe_load(self.cluster.config(at, role, **PACE).read_text())
        settings["timeouts"] = dict.fromkeys(settings["timeouts"], "1s")
        return yaml.safe_dump(settings)

    def ask_for(self, name: str) -> None:
        """Let the nodes' exporters look up one more name, which has no records. They notice the file by themselves."""
        self.cluster.configure(lambda settings: settings["dns"]["names"].append({"name": name, "expect": []}))
        for node in self.cluster.lab.nodes:
            self.exporters[node.name].config.write_text(self._config(node))

    def _stop_exporters(self) -> None:
        for name in tuple(self.exporters):
            self._end_exporter(name)

    def _end_exporter(self, name: str) -> None:
        self.exporters.pop(name).__exit__(None, None, None)

    def stop_exporter(self, node: LabNode | None) -> None:
        """It is gone until all is healed."""
        self._end_exporter(node.name if node else "")
        self._stopped.append(node)

    def spoil_config(self, node: LabNode) -> None:
        """Its configuration is one that it does not accept, until all is healed."""
        config = self.exporters[node.name].config
        self._configs[node.name] = config.read_text()
        config.write_text("rounds: {}\n")

    def restart_exporter(self, node: LabNode | None) -> None:
        """As a rollout replaces a pod; ready again afterwards."""
        self._end_exporter(node.name if node else "")
        since = time.time()
        self.start_exporter(node)
        chosen = f'node="{node.name}", role="node"' if node else 'role="cluster"'
        self.prometheus.wait_for(
            f"dualstack_exporter_last_round_timestamp_seconds > {since:.3f} and on (instance) "
            f"dualstack_exporter_info{{{chosen}}}"
        )

    def wait_rounds(self, rounds: int = 2) -> None:
        """Until every exporter has finished so many more rounds, and Prometheus has heard of it."""
        before = self._rounds()

        def done() -> bool:
            for each in self.exporters.values():
                assert each.process.poll() is None, each.log_text()
            now = self._rounds()
            return len(now) == len(self.exporters) and all(n >= before.get(i, 0) + rounds for i, n in now.items())

        self.wait(done, f"{rounds} rounds of all exporters")

    def _rounds(self) -> dict[str, float]:
        """How many each exporter has finished, by instance."""
        found = self.prometheus.instant("dualstack_exporter_rounds_total")
        return {each.labels["instance"]: each.points[0][1] for each in found}

    # Prometheus and Alertmanager

    def _prometheus_config(self) -> dict[str, Any]:
        rules = self._directory / "dualstack.yaml"
        rules.write_text(scaled_rules((ALERTS / "dualstack.yaml").read_text(), MINUTE))
        job = _read("deploy/prometheus/dualstack-exporter.yaml")["scrape_configs"][0]
        del job["kubernetes_sd_configs"]
        job |= {"scrape_interval": EVERY, "scrape_timeout": EVERY, "static_configs": self._discovered()}
        state = {
            "job_name": "kube-state-metrics", "honor_labels": True,
            "static_configs": [{"targets": [self._pod_info.address]}],
        }  # fmt: skip
        return {
            "global": {
                "scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": scaled("30s", MINUTE),
            },
            "rule_files": [str(rules)],
            "scrape_configs": [job, state],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [self._alertmanager.address]}]}]},
        }  # fmt: skip

    def _discovered(self) -> list[dict[str, Any]]:
        """The exporters' pods as Kubernetes discovery would tell them."""
        found = []
        for node in (*self.cluster.lab.nodes, None):
            component, name = ("node", node.name) if node else ("cluster", self.cluster.node.name)
            labels = {
                "pod_label_app_kubernetes_io_name": "dualstack-exporter", "pod_container_port_name": "metrics",
                "pod_label_app_kubernetes_io_component": component, "pod_node_name": name,
                "namespace": "dualstack-exporter", "pod_name": f"dualstack-exporter-{component}-{name}",
            }  # fmt: skip
            target = f"{node.address4 if node else '127.0.0.1'}:{PORT}"
            found.append({"targets": [target], "labels": {f"__meta_kubernetes_{k}": v for k, v in labels.items()}})
        return found

    def alerts(self, state: str) -> list[tuple[str, str]]:
        """(alert, node) of what Alertmanager has, but for the dead man's switch: "active", or "suppressed" by an
        inhibition.
        """
        found = self._place.call(self._alertmanager.alerts)
        return sorted(
            (each["labels"]["alertname"], each["labels"].get("node", ""))
            for each in found
            if each["status"]["state"] == state and each["labels"]["alertname"] != WATCHDOG
        )

    # what came of it

    @property
    def pages(self) -> list[Page]:
        """What was received so far but for the dead man's switch, in order: every alert of every notification."""
        return [
            Page(told.receiver, alert["alertname"], alert.get("node", ""), status)
            for told in self._alertmanager.receiver.of("page", "ticket", "nowhere")
            for status, alerts in (("firing", told.firing), ("resolved", told.resolved))
            for alert in alerts
        ]

    @property
    def beats(self) -> int:
        """How often the dead man's switch was held down."""
        return len(self._alertmanager.receiver.of("dead-mans-switch"))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            self.prometheus.wait(condition, what, PATIENCE)
        except AssertionError as error:
            logs = "\n".join(f"{name}: {each.log_text()[-2_000:]}" for name, each in self.exporters.items())
            raise AssertionError(f"{error}; fires: {self.state()}; received: {self.pages[-8:]}\n{logs}") from error

    def state(self) -> str:
        alerts = self.prometheus.instant("ALERTS")
        return ", ".join(
            sorted(f"{a.labels['alertname']}/{a.labels.get('node', '')} {a.labels['alertstate']}" for a in alerts)
        )

    def wait_quiet(self) -> None:
        """Until every exporter has seen the world as it is now, and nothing fires or is about to."""
        self.wait_rounds()
        self.wait(lambda: not self.prometheus.instant(f'ALERTS{{alertname!="{WATCHDOG}"}}'), "nothing fires")

    def pending(self) -> bool:
        """Whether a fault is there that is not alerted: one that is too young so far."""
        alerted = 'ALERTS{alertstate="firing", fault!=""}'
        return bool(
            self.prometheus.instant(f"place:dualstack_fault:subjects unless on (cluster, node, fault) {alerted}")
        )

    def heal(self) -> None:
        """Undo every fault: those of the lab, and those of the exporters."""
        self.cluster.heal()
        self.cluster.change(endpoints_on_hosts(self.cluster.lab))
        for name, text in self._configs.items():
            self.exporters[name].config.write_text(text)
        self._configs.clear()
        for node in self._stopped:
            self.start_exporter(node)
        self._stopped.clear()


def _read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())
