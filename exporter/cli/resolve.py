"""`resolve NAME`: what A and AAAA answer per search candidate, and what each libc would give an application there."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from exporter.cli.context import CommandContext, run_in_context
from exporter.daemon.command_error import CommandError
from exporter.daemon.options import Options
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.dns import ResolvConf
from exporter.model.probe import Lookup, Nameserver, Purpose, Question
from exporter.report.resolve import Resolving, candidates, document, write
from exporter.report.text import Style

LIMIT = 65536
LONGEST = 253  # characters of a name, RFC 1035 2.3.4


def resolve(options: Options, parsed: argparse.Namespace) -> int:
    """Print it; 0 whatever the libcs say."""
    name = parsed.name
    if (
        not name.strip(".")
        or len(name.rstrip(".")) > LONGEST
        or not name.isascii()
        or not name.isprintable()
        or " " in name
    ):
        raise CommandError(f"{name!r} is not a name that DNS could be asked for")
    given = _read(parsed.resolv_conf) if parsed.resolv_conf else None

    async def work(looking: CommandContext) -> Resolving:
        conf = given if given is not None else looking.conf
        if not conf.nameservers:
            raise CommandError("no nameserver is named in that resolv.conf")
        lookups = await _ask(looking, name, conf)
        return Resolving(
            name=name, request=parsed.family, conf=conf, lookups=lookups, place=looking.view.vantage.subject
        )

    resolving = run_in_context(options, work, pod=parsed.pod, netns=parsed.netns)
    if parsed.output == "json":
        sys.stdout.write(json.dumps(document(resolving), indent=1) + "\n")
    else:
        sys.stdout.write(write(resolving, Style.of(sys.stdout)))
    return 0


def _read(path: str) -> ResolvConf:
    try:
        with Path(path).open("rb") as file:
            return parse_resolv_conf(file.read(LIMIT))
    except OSError as error:
        raise CommandError(f"--resolv-conf={path}: {error.strerror}") from error


async def _ask(looking: CommandContext, name: str, conf: ResolvConf) -> tuple[Lookup, ...]:
    """A and AAAA of every candidate of any libc, of every nameserver: the operator asks, so all may be asked. As a libc asks."""
    questions = [
        Question(
            vantage=looking.view.vantage,
            server=Nameserver(address, "host"),
            name=candidate,
            qtype=qtype,
            label=name,
            purpose=Purpose.PREDICTION,
            edns="edns0" in conf.options,
            timeout=looking.config.timeouts.dns,
        )
        for candidate in candidates(name, conf)
        for qtype in ("A", "AAAA")
        for address in conf.nameservers
    ]
    return await looking.asker.ask_all(questions, looking.deadline)
