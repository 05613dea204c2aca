"""`resolve NAME`: what A and AAAA answer per search candidate, and what each libc would give an application there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from exporter.cli.vantage import VantageContext, run_at_vantage
from exporter.daemon.options import CommandError, Options
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.libc.resolver import all_candidates, all_nameservers
from exporter.model.dns import ResolvConf
from exporter.model.probe import Lookup, Lost, Nameserver, Purpose, Question
from exporter.plan import parallel
from exporter.report.resolve import Resolving, document, write
from exporter.report.text import Style

LIMIT = 65536
TRIES = 3  # of a pair: one lost datagram is no loss
LONGEST = 253  # characters of a name, RFC 1035 2.3.4


def resolve(options: Options) -> int:
    """Print it; 0 whatever the answers are."""
    name = options.name
    plain = name.isascii() and name.isprintable() and " " not in name
    if not plain or not name.strip(".") or len(name.rstrip(".")) > LONGEST:
        raise CommandError(f"{name!r} is not a valid DNS name")
    given = _read(options.resolv_conf) if options.resolv_conf else None

    async def work(context: VantageContext) -> Resolving:
        conf = given if given is not None else context.conf
        lookups = await _ask(context, name, conf, options.family)
        return Resolving(name=name, request=options.family, conf=conf, lookups=lookups, place=context.vantage.subject)

    resolving = run_at_vantage(options, options.load(), work)
    if options.output == "json":
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


async def _ask(context: VantageContext, name: str, conf: ResolvConf, family: str) -> tuple[Lookup, ...]:
    """A and AAAA of every candidate of any libc, from every nameserver, asked as a libc asks.

    Alone, and then both from one socket: a reply that is lost there every time is lost for an application.
    """
    questions = [
        Question(
            vantage=context.vantage,
            server=Nameserver(address, "host"),
            name=candidate,
            qtype=qtype,
            label=name,
            purpose=Purpose.PREDICTION,
            edns="edns0" in conf.options,
            timeout=context.config.timeouts["dns"],
        )
        for candidate in all_candidates(name, conf)
        for qtype in ("A", "AAAA")
        for address in all_nameservers(conf)
    ]
    lookups = await context.runner.ask_all(questions, context.deadline)
    for kind in (Lost.AT_ONCE, Lost.IN_TURN) if family == "any" else ():
        pairs = parallel.predicted(lookups, kind)
        lossy: list[Question] = []
        for _ in range(TRIES):
            made = await context.runner.ask_together(pairs, context.deadline)
            missing = [(pair, parallel.missing(each)) for pair, each in zip(pairs, made, strict=True)]
            pairs = tuple(pair for pair, question in missing if question is not None)
            lossy = [question for _, question in missing if question is not None]
        lookups = parallel.with_losses(lookups, kind, lossy)
    return lookups
