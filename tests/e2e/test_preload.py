"""Nothing is imported once privilege is given up: code under a private directory cannot be read any more by then."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.daemon import Daemon
from tests.e2e.village import paced

pytestmark = pytest.mark.real

CONFIG = """
families: [IPv4, IPv6]
netns: {{include: []}}
{pace}targets:
  - {{name: web, host: web.test, addresses: ["::1", 127.0.0.1], port: {port}, layers: [icmp, tcp, tls, http],
      ca_file: {ca}}}
  - {{name: wrong, host: wrong.test, addresses: ["::1", 127.0.0.1], port: {port}, layers: [tcp, tls], ca_file: {ca}}}
  - {{name: named, host: nowhere.test, port: 80}}
dns: {{names: [{{name: web.test}}], servers: [{{name: loop, address: "::1"}}]}}
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that the unprivileged uid may read."""
    with tempfile.TemporaryDirectory(prefix="dualstack-exporter-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def server(public: Path) -> Iterator[int]:
    """An HTTPS server on ::1 with an own authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(public / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("web.test").configure_cert(context)
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(4096)
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            except OSError:
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_nothing_is_imported_late(server: int, public: Path, tmp_path: Path) -> None:
    record = tmp_path / "late"
    prefix = [sys.executable, str(Path(__file__).with_name("late_imports.py")), str(record)]
    with Daemon(CONFIG.format(pace=paced(), port=server, ca=public / "ca.pem"), command=prefix) as daemon:
        daemon.wait_rounds(2)
        outcomes = {
            (p["target"], p["layer"], p["ip_family"]): p["outcome"]
            for p in daemon.report()["probes"]
            if p["vantage"] == "host"
        }
        for path in ("/", "/metrics", "/config", "/api/v1/report", "/nowhere", "/-/ready"):
            daemon.get(path)
        headers = ["-H", "Accept: application/openmetrics-text; version=1.0.0", "-H", "Accept-Encoding: gzip"]
        subprocess.run(["curl", "-s", "-o", "/dev/null", *headers, f"http://[::1]:{daemon.port}/metrics"], check=True)
        daemon.config.write_text("nonsense: [")
        subprocess.run(
            ["curl", "-s", "-o", "/dev/null", "-X", "POST", f"http://[::1]:{daemon.port}/-/reload"], check=True
        )
        assert "unexpected" not in daemon.log_text()
    assert outcomes["web", "http", "IPv6"] == "ok"
    assert outcomes["wrong", "tls", "IPv6"] == "tls_name"
    assert record.read_text().split() == []
