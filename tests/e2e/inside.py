"""Servers inside a namespace of the lab, asked from outside: Prometheus, and what stands for kube-state-metrics. Part
of pages.py.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.e2e.alerting import scaled
from tests.e2e.daemon import free_port
from tests.e2e.prometheus import Prometheus
from tests.kernel import namespaces
from tests.kernel.calico import Lab

Result = TypeVar("Result")


class Inside:
    """Calls functions in a network namespace, on a thread that has entered it."""

    def __init__(self, namespace: str) -> None:
        self._thread = ThreadPoolExecutor(1, initializer=namespaces.enter, initargs=(namespace,))

    def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return self._thread.submit(function, *arguments).result()

    def close(self) -> None:
        self._thread.shutdown()


class PodInfo:
    """What kube-state-metrics says of the lab's pods, as a target of Prometheus."""

    def __init__(self, place: Inside, text: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing on stderr."""

        self._server = place.call(ThreadingHTTPServer, ("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class PrometheusInside(Prometheus):
    """A Prometheus in a namespace of the lab, with a whole configuration."""

    def __init__(self, namespace: str, place: Inside, config: dict[str, Any], minute: float) -> None:
        self._place = place
        self._directory = tempfile.TemporaryDirectory(prefix="dualstack-prometheus-test-")
        directory = Path(self._directory.name)
        self.port = free_port()
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (directory / "log").open("wb")
        command = [
            "prometheus", f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}", f"--rules.alert.resend-delay={scaled('1m', minute)}",
        ]  # fmt: skip
        self.process = namespaces.start_inside(namespace, *command, stdout=self._log, stderr=self._log)

    def _get(self, path: str, **parameters: str) -> bytes:
        return self._place.call(lambda: super(PrometheusInside, self)._get(path, **parameters))


def pod_info(lab: Lab) -> str:
    """kube_pod_info of the lab's pods, in the words of kube-state-metrics."""
    lines = ["# HELP kube_pod_info [STABLE] Information about pod.", "# TYPE kube_pod_info gauge"]
    for node in lab.nodes:
        for pod in node.pods:
            labels: Mapping[str, str] = {
                "namespace": pod.namespace, "pod": pod.name, "uid": f"uid-Pod-{pod.namespace}-{pod.name}",
                "host_ip": node.address4, "pod_ip": pod.address4, "node": node.name, "created_by_kind": "ReplicaSet",
                "created_by_name": "web-7d4b9c6f5", "priority_class": "", "host_network": "false",
            }  # fmt: skip
            said = ",".join(f'{key}="{value}"' for key, value in labels.items())
            lines.append(f"kube_pod_info{{{said}}} 1")
    return "\n".join(lines) + "\n"
