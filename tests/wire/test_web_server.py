"""The HTTP surface over real sockets: routes, headers, TLS, who is let in, and what slow or hostile clients can do."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import errno
import gzip
import hashlib
import json
import logging
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread

import bcrypt
import pytest
import trustme
from aiohttp import web

from exporter.web.server.admission import Admission
from exporter.web.server.application import WebOptions, WebServer
from exporter.web.server.connections import ConnectionLimits
from exporter.web.server.exposition import Rendered
from exporter.web.server.listening import bind
from exporter.web.server.rotation import WebSettings

CLONE_NEWNET = 0x40000000  # linux/sched.h
STYLE = "body { color: black }"
HEALTH = ["/-/healthy", "/healthz", "/livez", "/-/ready", "/readyz"]
GUARDED = ["/", "/metrics", "/api/v1/report", "/config", "/runbooks/", "/migration", "/nowhere"]


@dataclass
class World:
    """What the server shows; stands in for the daemon."""

    ready: bool = True
    report_bytes: bytes | None = json.dumps({"version": 1, "causes": ["x" * 2000]}).encode()
    problem: str = ""
    steps: str | None = "the steps"
    reloads: int = 0
    asked: list[tuple[str, bool]] = field(default_factory=list)

    def render(self, accept: str, *, gzip: bool) -> Rendered:
        self.asked.append((accept, gzip))
        return Rendered(b"dualstack_exporter_info 1\n", "text/plain; version=0.0.4; charset=utf-8")

    def report(self) -> bytes | None:
        return self.report_bytes

    def page(self) -> str:
        return f"<!doctype html><style>{STYLE}</style><p>IPv6 ✓"

    def runbook(self, name: str) -> str | None:
        return f"runbook {name}" if name in {"", "DualstackIpv6Down"} else None

    def migration(self) -> str | None:
        return self.steps

    def config_text(self) -> str:
        return "role: node\n"

    async def reload(self) -> str:
        self.reloads += 1
        return self.problem


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Served:
    world: World
    port: int
    tls: ssl.SSLContext | None = None

    async def connect(self, host: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = "exporter.test" if self.tls else None
        return await asyncio.open_connection(host, self.port, ssl=self.tls, server_hostname=name)

    async def ask(self, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str) -> Reply:
        headers.setdefault("Host", "exporter.test")
        lines = [f"{method} {path} HTTP/1.1", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return await self.send(("\r\n".join(lines) + "\r\n\r\n").encode(), host)

    async def send(self, request: bytes, host: str = "127.0.0.1") -> Reply:
        async with asyncio.timeout(20):
            reader, writer = await self.connect(host)
            try:
                writer.write(request)
                return parse(await reader.read())
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()


def parse(raw: bytes) -> Reply:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return Reply(int(status.split(" ")[1]), headers, body)


@asynccontextmanager
async def serve(
    web_config: str = "",
    *,
    directory: Path = Path("/"),
    tls: ssl.SSLContext | None = None,
    listeners: Sequence[socket.socket] = (),
    limits: ConnectionLimits | None = None,
    **options: object,
) -> AsyncIterator[Served]:
    path = directory / "web.yaml" if web_config else None
    if path:
        path.write_text(web_config)
    chosen = replace(WebOptions(style=STYLE, limits=limits or ConnectionLimits()), **options)  # type: ignore[arg-type]
    world = World()
    server = WebServer(world, WebSettings(str(path or "")), chosen)
    listeners = listeners or bind([":0"])
    port = listeners[0].getsockname()[1]
    task = asyncio.create_task(server.run(listeners))
    try:
        yield Served(world, port, tls)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# Routes


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_every_route_answers_over_both_families(host: str) -> None:
    async with serve() as served:
        metrics = await served.ask("/metrics", host=host)
        assert (metrics.status, metrics.text) == (200, "dualstack_exporter_info 1\n")
        assert metrics.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        page = await served.ask("/", host=host)
        assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert page.text.endswith("IPv6 ✓")
        report = await served.ask("/api/v1/report", host=host)
        assert (report.status, report.headers["Content-Type"]) == (200, "application/json")
        assert json.loads(report.body)["version"] == 1
        config = await served.ask("/config", host=host)
        assert (config.status, config.text) == (200, "role: node\n")
        for path, name in (("/runbooks/", ""), ("/runbooks/DualstackIpv6Down", "DualstackIpv6Down")):
            runbook = await served.ask(path, host=host)
            assert (runbook.status, runbook.text) == (200, f"runbook {name}")
            assert (await served.ask(f"{path}x", host=host)).status == 404
        assert (await served.ask("/runbooks/DualstackIpv6Down.md", host=host)).status == 200
        served.world.steps = "the steps"
        assert (await served.ask("/migration", host=host)).text == "the steps"
        served.world.steps = None  # a node's exporter
        assert (await served.ask("/migration", host=host)).status == 404
        for path in HEALTH:
            assert (await served.ask(path, host=host)).status == 200


async def test_readiness_follows_rounds_and_liveness_does_not() -> None:
    async with serve() as served:
        served.world.ready = False
        served.world.report_bytes = None
        assert [(await served.ask(path)).status for path in HEALTH] == [200, 200, 200, 503, 503]
        assert (await served.ask("/api/v1/report")).status == 503
        assert (await served.ask("/metrics")).status == 200


async def test_the_telemetry_path_is_configurable_and_takes_nobody_s_place() -> None:
    async with serve(telemetry_path="/probe/metrics") as served:
        assert (await served.ask("/probe/metrics")).status == 200
        assert (await served.ask("/metrics")).status == 404
    for path in ("metrics", "/", "/config", "/migration", "/runbooks/x", "/-/ready", "/a{b}", "/a b", ""):
        with pytest.raises(ValueError, match="path"):
            WebServer(World(), WebSettings(), WebOptions(telemetry_path=path))


async def test_unknown_paths_and_methods_are_plain_text() -> None:
    async with serve() as served:
        missing = await served.ask("/<script>", Accept="text/html")
        assert (missing.status, missing.headers["Content-Type"], missing.text) == (
            404,
            "text/plain; charset=utf-8",
            "not found\n",
        )
        wrong = await served.ask("/metrics", "DELETE")
        assert (wrong.status, wrong.headers["Allow"], wrong.text) == (405, "GET,HEAD", "method not allowed\n")
        head = await served.ask("/metrics", "HEAD")
        assert (head.status, head.body) == (200, b"")


async def test_accept_and_accept_encoding_reach_the_exposition() -> None:
    async with serve() as served:
        await served.ask("/metrics", Accept="application/openmetrics-text", Accept_Encoding="gzip, br")
        await served.ask("/metrics", Accept="text/plain", Accept_Encoding="br, gzip;q=0")
        await served.ask("/metrics", Accept_Encoding="GZIP; q=0.5")
        await served.ask("/metrics", Accept_Encoding="*")
        assert served.world.asked == [
            ("application/openmetrics-text", True),
            ("text/plain", False),
            ("", True),
            ("", False),
        ]


async def test_a_large_report_is_gzipped_for_those_who_take_it() -> None:
    async with serve() as served:
        plain = await served.ask("/api/v1/report")
        packed = await served.ask("/api/v1/report", Accept_Encoding="gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body == served.world.report_bytes
        served.world.report_bytes = b"{}"
        assert "Content-Encoding" not in (await served.ask("/api/v1/report", Accept_Encoding="gzip")).headers


async def test_every_answer_has_the_security_headers() -> None:
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    async with serve() as served:
        for path in [*GUARDED, *HEALTH]:
            headers = (await served.ask(path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "deny"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Server"] == "dualstack-exporter"
            assert headers["Content-Security-Policy"] == (
                f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; "
                f"frame-ancestors 'none'"
            )


async def test_configured_headers_replace_ours_and_empty_ones_remove_them(tmp_path: Path) -> None:
    given = "X-Frame-Options: sameorigin, X-Content-Type-Options: '', Strict-Transport-Security: max-age=1"
    text = f"http_server_config: {{headers: {{{given}}}}}"
    async with serve(text, directory=tmp_path) as served:
        headers = (await served.ask("/metrics")).headers
        assert headers["X-Frame-Options"] == "sameorigin"
        assert "X-Content-Type-Options" not in headers
        assert headers["Strict-Transport-Security"] == "max-age=1"


# Reload


async def test_reload_is_served_to_loopback() -> None:
    async with serve() as served:
        for method, host, named in (("POST", "127.0.0.1", "localhost:10046"), ("PUT", "::1", "[::1]:10046")):
            assert (await served.ask("/-/reload", method, host, Host=named)).status == 200
        assert (await served.ask("/-/reload")).status == 405
        assert served.world.reloads == 2
        served.world.problem = "config.yaml: role: leader is not one of node, cluster, all"
        failed = await served.ask("/-/reload", "POST", Host="127.0.0.1")
        assert failed.status == 500
        assert served.world.problem in failed.text


@pytest.mark.attack
@pytest.mark.parametrize("lifecycle", [False, True])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": "http://localhost:10046"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Host": "evil.test", "Sec_Fetch_Site": "same-origin"},  # a foreign name that leads to 127.0.0.1
        {"Host": "evil.test:10046", "Origin": "http://evil.test:10046"},
    ],
)
async def test_a_foreign_page_in_a_browser_of_this_machine_reloads_nothing(
    lifecycle: bool, headers: dict[str, str]
) -> None:
    async with serve(lifecycle=lifecycle) as served:
        assert (await served.ask("/-/reload", "POST", **{"Host": "127.0.0.1", **headers})).status == 403
        assert served.world.reloads == 0


@pytest.mark.attack
@pytest.mark.parametrize(
    "named",
    ["evil.test", "127.0.0.1.evil.test", "localhost.evil.test", "192.0.2.1", "[2001:db8::1]", "127.0.0.1\r\nHost: x"],
)
async def test_a_foreign_name_of_the_loopback_address_reloads_nothing(named: str) -> None:
    async with serve() as served:
        assert (await served.ask("/-/reload", "POST", Host=named)).status in {400, 403}
        assert served.world.reloads == 0


PLACE = "192.0.2.10"


@pytest.fixture
def elsewhere() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A listener and a client's socket in a network namespace of their own, where PLACE is an address that is not
    loopback.
    """
    made: list[socket.socket] = []

    def make() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
        for command in ("link set lo up", f"address add {PLACE}/32 dev lo"):
            subprocess.run(["ip", *command.split()], check=True)
        made.extend(bind([f"{PLACE}:0"]))
        made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        made[1].settimeout(0)

    # A socket stays in the namespace of the thread that made it, and the namespace lives as long as its sockets.
    thread = Thread(target=make)
    thread.start()
    thread.join()
    listener, client = made
    yield listener, client
    client.close()
    listener.close()


@pytest.mark.real
@pytest.mark.parametrize(("lifecycle", "status"), [(False, 403), (True, 200)])
async def test_reload_from_elsewhere_is_refused_unless_enabled(
    elsewhere: tuple[socket.socket, socket.socket], lifecycle: bool, status: int
) -> None:
    listener, client = elsewhere
    async with serve(lifecycle=lifecycle, listeners=[listener]) as served:
        await asyncio.get_running_loop().sock_connect(client, (PLACE, served.port))
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(
            b"POST /-/reload HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\nForwarded: "
            b"for=127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        assert parse(await reader.read()).status == status
        assert served.world.reloads == int(lifecycle)
        writer.close()


# Who is let in


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def users(**passwords: str) -> str:
    lines = [
        f"  {user}: {bcrypt.hashpw(word.encode(), bcrypt.gensalt(4)).decode()}" for user, word in passwords.items()
    ]
    return "basic_auth_users:\n" + "\n".join(lines) + "\n"


async def test_basic_auth_guards_everything_but_health(tmp_path: Path) -> None:
    async with serve(users(alice="secret"), directory=tmp_path) as served:
        for path in GUARDED:
            refused = await served.ask(path)
            assert (refused.status, refused.text) == (401, "user and password are needed\n")
            assert refused.headers["WWW-Authenticate"] == 'Basic realm="dualstack-exporter", charset="UTF-8"'
            assert refused.headers["X-Content-Type-Options"] == "nosniff"
        assert (await served.ask("/-/reload", "POST")).status == 401
        assert served.world.reloads == 0
        for path in HEALTH:
            assert (await served.ask(path)).status == 200
        for wrong in (basic("alice", "wrong"), basic("mallory", "secret"), "Bearer x", "Basic ???"):
            assert (await served.ask("/metrics", Authorization=wrong)).status == 401
        assert (await served.ask("/metrics", Authorization=basic("alice", "secret"))).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/%6detrics",
        "//metrics",
        "/./metrics",
        "/-/healthy/../../metrics",
        "/%2D/healthy/",
        "/metrics?x=/-/healthy",
        "/-/healthy%2f..%2f..%2fmetrics",
    ],
)
async def test_no_spelling_of_a_path_gets_round_the_password(tmp_path: Path, path: str) -> None:
    async with serve(users(alice="secret"), directory=tmp_path) as served:
        reply = await served.ask(path)
        assert reply.status in {401, 404}
        assert served.world.asked == []


async def test_guessing_is_bounded_and_does_not_hold_up_the_scraper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(users(alice="secret"), directory=tmp_path) as served:
        scraper = basic("alice", "secret")
        assert (await served.ask("/metrics", Authorization=scraper)).status == 200
        release = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(password: bytes, hashed: bytes) -> bool:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(10)
            return False

        monkeypatch.setattr(bcrypt, "checkpw", slow)
        guesses = [asyncio.create_task(served.ask("/metrics", Authorization=basic("alice", str(n)))) for n in range(6)]
        done, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert {task.result().status for task in done} == {429}
        assert (await served.ask("/metrics", Authorization=scraper)).status == 200
        assert (await served.ask("/-/healthy")).status == 200
        release.set()
        replies = await asyncio.gather(*guesses)
        assert sorted(reply.status for reply in replies) == [401, 401, 429, 429, 429, 429]


@pytest.mark.attack
async def test_a_flood_of_guesses_from_many_places_keeps_no_new_scraper_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From twenty addresses, ten of them in one /64, again and again: scrapers that were never here get their turn."""
    async with serve(users(alice="secret", bob="other"), directory=tmp_path) as served:
        release, decided = asyncio.Event(), asyncio.Event()
        loop, decide, remote = asyncio.get_running_loop(), Admission._has_place, [""]

        def slow(password: bytes, _: bytes) -> bool:
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)
            return password in {b"secret", b"other"}

        def has_place(admission: Admission, client: str) -> bool:
            decided.set()
            return decide(admission, client)

        async def attempt(address: str, user: str, password: str) -> asyncio.Task[Reply]:
            """Has its place or its refusal when this returns."""
            remote[0] = address
            decided.clear()
            task = asyncio.create_task(served.ask("/metrics", Authorization=basic(user, password)))
            await asyncio.wait_for(decided.wait(), 20)
            return task

        monkeypatch.setattr(bcrypt, "checkpw", slow)
        monkeypatch.setattr(web.BaseRequest, "remote", property(lambda _: remote[0]))
        monkeypatch.setattr(Admission, "_has_place", has_place)
        places = [f"192.0.2.{n}" for n in range(10)] + [f"2001:db8::{n}" for n in range(10)]
        for user, password, client, guessed in (
            ("alice", "secret", "198.51.100.1", 11),  # ten of IPv4 and one /64
            ("bob", "other", "2001:db8:ffff::1", 8),  # half of the places: all of them guessed wrong before
        ):
            release.clear()
            flood = [await attempt(place, user, f"{place} {n}") for n in range(2) for place in places]
            scraper = await attempt(client, user, password)
            release.set()
            assert (await scraper).status == 200
            assert [(await task).status for task in flood].count(401) == guessed


async def test_the_rate_limit_spares_health(tmp_path: Path) -> None:
    async with serve("rate_limit: {interval: 1h, burst: 2}", directory=tmp_path) as served:
        assert [(await served.ask("/metrics")).status for _ in range(3)] == [200, 200, 429]
        assert (await served.ask("/-/healthy")).status == 200


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write_certificate(directory: Path, authority: trustme.CA, name: str = "exporter.test") -> None:
    leaf = authority.issue_cert(name)
    (directory / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    (directory / "tls.key").write_bytes(leaf.private_key_pem.bytes())
    (directory / "ca.crt").write_bytes(authority.cert_pem.bytes())


def client_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if names:
        authority.issue_cert(*names).configure_cert(context)
    return context


TLS = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"
MUTUAL = (
    "tls_server_config: {{cert_file: tls.crt, key_file: tls.key, client_auth_type: {}, client_ca_file: ca.crt{}}}\n"
)


async def test_tls_is_spoken_with_password_and_health(tmp_path: Path, authority: trustme.CA) -> None:
    write_certificate(tmp_path, authority)
    async with serve(TLS + users(alice="secret"), directory=tmp_path, tls=client_context(authority)) as served:
        assert (await served.ask("/metrics")).status == 401
        assert (await served.ask("/metrics", Authorization=basic("alice", "secret"))).status == 200
        assert (await served.ask("/metrics", host="::1", Authorization=basic("alice", "secret"))).status == 200
        assert (await served.ask("/healthz")).status == 200
        plain = replace(served, tls=None)
        reader, writer = await plain.connect()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in await reader.read()
        writer.close()


async def test_versions_below_the_configured_one_are_refused(tmp_path: Path, authority: trustme.CA) -> None:
    write_certificate(tmp_path, authority)
    context = client_context(authority)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serve(TLS.replace("}", ", min_version: TLS13}"), directory=tmp_path, tls=context) as served:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served.ask("/metrics")
    async with serve(TLS, directory=tmp_path, tls=context) as served:
        assert (await served.ask("/metrics")).status == 200


async def test_client_certificates_are_needed_for_all_but_health(tmp_path: Path, authority: trustme.CA) -> None:
    write_certificate(tmp_path, authority)
    text = MUTUAL.format("RequireAndVerifyClientCert", ", client_allowed_sans: [scraper.test]")
    async with serve(text, directory=tmp_path, tls=client_context(authority)) as served:
        assert [(await served.ask(path)).status for path in ("/metrics", "/healthz")] == [403, 200]
        right = replace(served, tls=client_context(authority, "scraper.test"))
        assert (await right.ask("/metrics")).status == 200
        other = replace(served, tls=client_context(authority, "other.test"))
        assert [(await other.ask(path)).status for path in ("/metrics", "/healthz")] == [403, 200]
        stranger = client_context(authority)
        trustme.CA().issue_cert("scraper.test").configure_cert(stranger)
        with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
            await replace(served, tls=stranger).ask("/metrics")


async def test_a_client_certificate_that_may_be_left_out_may_be_left_out(tmp_path: Path, authority: trustme.CA) -> None:
    write_certificate(tmp_path, authority)
    async with serve(
        MUTUAL.format("VerifyClientCertIfGiven", ""), directory=tmp_path, tls=client_context(authority)
    ) as served:
        assert (await served.ask("/metrics")).status == 200
        given = replace(served, tls=client_context(authority, "scraper.test"))
        assert (await given.ask("/metrics")).status == 200


async def test_a_replaced_certificate_is_used_for_new_connections(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.web.server.rotation._PAUSE", 0.0)
    write_certificate(tmp_path, authority)
    async with serve(TLS, directory=tmp_path, tls=client_context(authority)) as served:

        async def serial() -> object:
            _, writer = await served.connect()
            certificate = writer.get_extra_info("peercert")
            writer.close()
            return certificate["serialNumber"]

        before = await serial()
        write_certificate(tmp_path, authority)
        assert await serial() != before
        (tmp_path / "tls.key").write_text("garbage")
        assert await serial() != before


@pytest.mark.real
def test_prometheus_own_tool_accepts_the_files_that_we_accept(tmp_path: Path, authority: trustme.CA) -> None:
    write_certificate(tmp_path, authority)
    for text in (
        TLS + users(alice="secret"),
        MUTUAL.format("RequireAndVerifyClientCert", ", min_version: TLS13, curve_preferences: [X25519]"),
        TLS.replace(
            "}", ", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384], prefer_server_cipher_suites: false}"
        ),
        (
            "http_server_config: {http2: false, headers: {X-Frame-Options: sameorigin, Strict-Transport-Security: "
            "max-age=1}}"
        ),
        "basic_auth_users:\n",
    ):
        path = tmp_path / "web.yaml"
        path.write_text(text)
        WebSettings(str(path))
        subprocess.run(["promtool", "check", "web-config", str(path)], check=True, capture_output=True)


# Slow and hostile clients

QUICK = ConnectionLimits(connections=8, handshake=0.4, head=0.4, request=0.4, idle=0.4)


async def closed_by_server(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            while await reader.read(65536):
                pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("begin", [b"", b"GET /met", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-A: "])
async def test_a_client_that_never_finishes_its_request_is_cut(begin: bytes) -> None:
    async with serve(limits=QUICK) as served:
        reader, writer = await served.connect()
        writer.write(begin)
        assert await closed_by_server(reader)
        writer.close()


async def test_a_client_that_trickles_is_cut_all_the_same() -> None:
    async with serve(limits=QUICK) as served:
        reader, writer = await served.connect()
        writer.write(b"GET /metrics HTTP/1.1\r\n")

        async def trickle() -> None:
            while True:
                writer.write(b"X: y\r\n")
                await asyncio.sleep(0.05)

        task = asyncio.create_task(trickle())
        assert await closed_by_server(reader)
        task.cancel()
        writer.close()


async def test_a_client_that_never_shakes_hands_is_cut(tmp_path: Path, authority: trustme.CA) -> None:
    write_certificate(tmp_path, authority)
    async with serve(TLS, directory=tmp_path, limits=QUICK) as served:
        reader, writer = await served.connect()
        assert await closed_by_server(reader)
        writer.close()


async def test_an_idle_connection_is_cut_and_a_used_one_is_kept() -> None:
    async with serve(limits=replace(QUICK, head=5.0, request=5.0, idle=2.0)) as served:
        reader, writer = await served.connect()
        for _ in range(3):
            writer.write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readuntil(b"ok\n")
        assert await closed_by_server(reader)
        writer.close()


async def test_silent_clients_cannot_keep_a_scraper_out() -> None:
    async with serve(limits=ConnectionLimits(connections=8)) as served:
        silent = [await served.connect() for _ in range(30)]
        assert (await served.ask("/metrics")).status == 200
        assert await closed_by_server(silent[0][0])
        for _, writer in silent:
            writer.close()


async def test_a_reader_that_reads_nothing_does_not_hold_up_others() -> None:
    async with serve() as served:
        served.world.report_bytes = b"x" * 20_000_000
        _, writer = await served.connect()
        writer.write(b"GET /api/v1/report HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
        await writer.drain()
        assert (await served.ask("/metrics")).status == 200
        writer.transport.abort()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(200)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
    ],
)
async def test_requests_that_are_none_get_400_and_no_log_line(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve() as served:
        caplog.set_level(logging.INFO)
        reply = await served.send(request_bytes)
        assert (reply.status, reply.body) == (400, b"bad request\n")
        assert reply.headers["Server"] == "dualstack-exporter"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert caplog.records == []
        assert (await served.ask("/metrics")).status == 200


@pytest.mark.attack
async def test_an_unknown_expectation_is_not_echoed() -> None:
    async with serve() as served:
        reply = await served.ask("/metrics", Expect="<script>")
        assert (reply.status, reply.body) == (417, b"expectation failed\n")
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_bug_of_ours_is_500_and_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as served:
        served.world.page = None  # type: ignore[assignment,method-assign]
        reply = await served.ask("/", Accept="text/html")
        assert reply.status == 500
        assert b"NoneType" not in reply.body
        assert "NoneType" in caplog.text


async def test_access_is_logged_at_debug_only(caplog: pytest.LogCaptureFixture) -> None:
    async with serve() as served:
        caplog.set_level(logging.INFO, logger="exporter")
        await served.ask("/metrics")
        assert caplog.records == []
        caplog.set_level(logging.DEBUG, logger="exporter")
        await served.ask("/metrics", Authorization=basic("alice", "secret"))
        (record,) = [r for r in caplog.records if r.msg == "request"]
        shown = vars(record)["fields"]
        assert (shown["method"], shown["path"], shown["status"], shown["client"]) == (
            "GET",
            "/metrics",
            200,
            "127.0.0.1",
        )
        assert "secret" not in caplog.text


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_ending_closes_every_socket() -> None:
    before = count_descriptors()
    async with serve() as served:
        _, silent = await served.connect()
        await served.ask("/metrics")
        port = served.port
    silent.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await asyncio.sleep(0)
    assert count_descriptors() <= before


async def test_running_short_of_descriptors_delays_clients_and_loses_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    real = loop.sock_accept
    short = [errno.EMFILE, errno.ECONNABORTED]

    async def accept(listener: socket.socket) -> object:
        if short:
            raise OSError(short.pop(0), "short")
        return await real(listener)

    monkeypatch.setattr(loop, "sock_accept", accept)
    async with serve(limits=replace(ConnectionLimits(), pause=0.05)) as served:
        assert (await served.ask("/metrics")).status == 200
    assert [record.message for record in caplog.records] == ["cannot accept connections"]
