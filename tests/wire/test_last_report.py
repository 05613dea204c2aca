"""`check --last` against real web servers: the report over HTTP and TLS, and in words what keeps it from coming."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from exporter.cli import command
from exporter.cli.remote import last_report
from exporter.daemon.options import CommandError, Options
from exporter.model.family import Family
from exporter.report.document import document_of, to_json
from tests.unit.sample import bad_day
from tests.wire.loopback import closed_port
from tests.wire.test_web_server import TLS, Served, serve, users, write_certificate


def options(port: int, directory: Path | None = None) -> Options:
    web = str(directory / "web.yaml") if directory is not None else ""
    return Options(web_listen_address=[f"127.0.0.1:{port}"], web_config_file=web)


def tell(served: Served) -> None:
    report = bad_day()
    told = replace(report, snapshot=replace(report.snapshot, node="told"))
    served.world.report_bytes = to_json(document_of(told)).encode()


async def test_the_report_comes_over_plain_http() -> None:
    async with serve() as served:
        tell(served)
        assert (await last_report(options(served.port))).node == "told"


async def test_a_container_that_is_told_its_port_asks_that_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the host's network, 10046 is another exporter's."""
    async with serve() as served:
        tell(served)
        monkeypatch.setenv(command.VARIABLES["web_listen_address"], f"127.0.0.1:{served.port}")
        await asyncio.to_thread(command.run, ["check", "--last"])
        assert capsys.readouterr().out.startswith("[told] ")
        with closed_port(Family.V4) as port:
            status = await asyncio.to_thread(command.run, ["check", "--last", f"--web.listen-address=127.0.0.1:{port}"])
            assert status == command.BAD_INPUT
            assert f"127.0.0.1:{port}: " in capsys.readouterr().err


async def test_the_report_comes_over_tls_where_the_web_configuration_says_so(tmp_path: Path) -> None:
    write_certificate(tmp_path, trustme.CA())
    async with serve(TLS, directory=tmp_path) as served:
        tell(served)
        assert (await last_report(options(served.port, tmp_path))).node == "told"
        with pytest.raises(CommandError, match=r"does not speak plain HTTP; pass --web\.config\.file"):
            await last_report(options(served.port))


async def test_what_keeps_it_from_coming_is_said(tmp_path: Path) -> None:
    async with serve(users(alice="secret"), directory=tmp_path) as guarded:
        with pytest.raises(CommandError, match="requires basic auth"):
            await last_report(options(guarded.port, tmp_path))
    async with serve() as early:
        early.world.report_bytes = None
        with pytest.raises(CommandError, match="no round has finished"):
            await last_report(options(early.port))
    async with serve() as other:
        other.world.report_bytes = b"[]"
        with pytest.raises(CommandError, match="not a report of this version"):
            await last_report(options(other.port))
    with closed_port(Family.V4) as port, pytest.raises(CommandError, match=rf"127\.0\.0\.1:{port}: .*refused"):
        await last_report(options(port))
