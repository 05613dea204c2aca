"""Run inside the image by test_image.py: an API server that knows two Nodes, one without IPv6, and `check` of the
cluster role on it.

It shows that the Kubernetes client of the image is whole enough: of its generated code the Dockerfile keeps what the
exporter loads.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from exporter.__main__ import main

NODES = {"both": ["192.0.2.1", "2001:db8::1"], "old": ["192.0.2.2"]}


class Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        nodes = NODES if self.path.startswith("/api/v1/nodes") else {}
        items = [
            {
                "metadata": {"name": name, "uid": name, "resourceVersion": "1"},
                "status": {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]},
            }
            for name, addresses in nodes.items()
        ]
        found = {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}
        body = b"" if "watch=" in self.path else json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


def kubeconfig(server: str) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "somebody"}}],
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "users": [{"name": "somebody", "user": {"token": "secret"}}],
        }
    )


if __name__ == "__main__":
    api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    directory = Path(sys.argv[1])
    (directory / "kubeconfig").write_text(kubeconfig(f"http://127.0.0.1:{api.server_port}"))
    (directory / "config.yaml").write_text(
        f"families: [IPv4, IPv6]\ninventory: {{source: kubernetes, kubeconfig: {directory}/kubeconfig}}\n"
    )
    sys.argv = ["dualstack-exporter", "check", "--role=cluster", f"--config.file={directory}/config.yaml"]
    print("exit", main())  # noqa: T201 - what the test reads, beside the report
