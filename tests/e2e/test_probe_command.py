"""`probe` with the settings of a configured target, and of a ClusterIP that answers no echo."""

from __future__ import annotations

import http.server
import re
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.daemon import run_exporter
from tests.e2e.test_commands import arguments
from tests.e2e.village import PORT, Village
from tests.kernel import namespaces

pytestmark = pytest.mark.real

STEP = re.compile(r"^  (\w+) +(\w+)", re.MULTILINE)


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(418 if self.path == "/status" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


class FourServer(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that does not believe the certificate ends the connection."""


class SixServer(FourServer):
    address_family = socket.AF_INET6


@pytest.fixture(scope="module")
def web() -> Iterator[tuple[int, Path]]:
    """A server at one port of both loopback addresses whose certificate proves web.test, and its authority's file."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("web.test").configure_cert(context)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        Path(directory).chmod(0o755)
        file = Path(directory) / "ca.pem"
        authority.cert_pem.write_to_path(str(file))
        six = stack.enter_context(SixServer(("::1", 0), Answers))
        port = six.server_address[1]
        four = stack.enter_context(FourServer(("127.0.0.1", port), Answers))
        for server in (six, four):
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
        yield port, file


def config(web: tuple[int, Path], **settings: Any) -> str:
    """A configuration with the target; nothing asks a nameserver for its name, because it has addresses."""
    port, file = web
    given = {
        "host": "web.test", "addresses": '["::1", 127.0.0.1]', "port": port, "layers": "[tcp, tls, http]",
        "path": "/status", "status": "[418]", "ca_file": file,
    } | settings  # fmt: skip
    made = file.with_name("config.yaml")
    said = ", ".join(f"{key}: {value}" for key, value in given.items())
    made.write_text(f"targets: [{{name: web, {said}}}]\n")
    return f"--config.file={made}"


def steps(*arguments: str) -> tuple[int, list[tuple[str, str]], str]:
    done = run_exporter("probe", *arguments)
    return done.returncode, STEP.findall(done.stdout), done.stdout + done.stderr


ALL = [("tcp", "ok"), ("tls", "ok"), ("http", "ok")]


@pytest.mark.parametrize(
    ("target", "flags", "expected"),
    [
        ("web", (), ALL * 2),
        ("web.test:{}", (), ALL * 2),
        ("[::1]:{}", (), ALL),
        ("127.0.0.1:{}", (), ALL),
        ("web", ("--family=6",), ALL),
        ("WEB.test.:{}", ("--layers=tcp",), ALL[:1] * 2),
    ],
)
def test_a_configured_target_is_dialled_with_its_settings(
    web: tuple[int, Path], target: str, flags: tuple[str, ...], expected: list[tuple[str, str]]
) -> None:
    status, made, said = steps(target.format(web[0]), *flags, config(web))
    assert (status, made) == (0, expected), said
    assert "with the settings of target web\n" in said


def test_the_settings_are_what_decides(web: tuple[int, Path]) -> None:
    assert steps("web", config(web, path="/"))[:2] == (1, [*ALL[:2], ("http", "status")] * 2)
    assert steps("web", config(web, host="other.test"))[:2] == (
        1,
        [ALL[0], ("tls", "tls_name"), ("http", "not_reached")] * 2,
    )
    alone = config(web, families="[IPv6]", addresses='["::1"]')
    assert steps("web", alone)[:2] == (0, ALL)
    assert steps("web", alone, "--family=4")[0] == 2
    assert steps("web", config(web, expect="unreachable"))[0] == 1
    with socket.create_server(("127.0.0.1", 0)) as bound:
        closed = bound.getsockname()[1]
    unreachable = config(web, expect="unreachable", port=closed, layers="[icmp, tcp, http]")
    assert steps("web", unreachable)[0] == 0


def test_another_port_of_the_host_is_not_the_target(web: tuple[int, Path]) -> None:
    status, made, said = steps("[::1]:1", config(web), "--layers=tcp")
    assert (status, made) == (1, [("tcp", "refused")])
    assert "settings" not in said


def test_a_name_that_is_neither_is_bad_input(web: tuple[int, Path]) -> None:
    done = run_exporter("probe", "wbe", config(web))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "configured target" in done.stderr


@pytest.mark.parametrize("of_a_service", [True, False])
def test_a_cluster_ip_without_echoes_is_no_failure(of_a_service: bool) -> None:
    """As kube-proxy's: TCP is served, and nothing answers an echo."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "village", "name": "web", "uid": "uid-web"},
        "spec": {
            "type": "ClusterIP", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"],
            "clusterIPs": ["2001:db8:ffff::1", "203.0.113.1"], "ports": [{"port": PORT}],
        },
    }  # fmt: skip
    with Village(["one"], objects=[service] if of_a_service else []) as village:
        ignored = {"net/ipv4/icmp_echo_ignore_all": 1, "net/ipv6/icmp/echo_ignore_all": 1}
        namespaces.configure({village.router: ignored})
        for address in ("203.0.113.1", "[2001:db8:ffff::1]"):
            flags = ("--pod=village/one", *arguments(village, village.config()))
            status, made, said = steps(f"{address}:{PORT}", *flags)
            assert made == [("icmp", "timeout"), ("tcp", "ok")], said
            assert (status, "need not answer echoes" in said) == ((0, True) if of_a_service else (1, False)), said
