"""The command line: flags to options, subcommands to what they run, outcomes to exit statuses (contract section 2).

Bad input gets one clear line on stderr and exit status 2, with nothing half-started. The work itself is app's and
oneshot's.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from exporter import __version__
from exporter.config import ConfigError, format_config
from exporter.daemon.command_error import CommandError
from exporter.daemon.options import Options
from exporter.telemetry.logs import LogFormat, LogLevel, configure

BAD_INPUT = 2
PROGRAM = "dualstack-exporter"
LISTEN_ADDRESS = "DUALSTACK_EXPORTER_LISTEN_ADDRESS"  # for the daemon of a container and for commands run in it


def run(arguments: Sequence[str]) -> int:
    """Parse and run. Exit statuses: that of the subcommand, 2 for bad input."""
    try:
        parsed = parser().parse_args(arguments)
        return int(parsed.run(parsed))
    except (ConfigError, CommandError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away; Python would complain once more at exit
        return 128 + signal.SIGPIPE


class _Parser(argparse.ArgumentParser):
    """Bad flags get one line, as all bad input does; the usage stands under --help."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """All flags and subcommands. Flags stand before or after the subcommand, and are written whole."""
    shared = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_shared(shared)
    top = _Parser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="IPv4/IPv6 dual-stack health for Prometheus, seen from inside the pods' own network namespaces.",
        epilog="Without a subcommand it runs as the daemon: metrics and status page on port 10046, over IPv6 and IPv4.",
        parents=[shared],
    )
    top.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    top.set_defaults(run=_daemon)
    commands = top.add_subparsers(title="subcommands", metavar="COMMAND")
    for name, summary, add, target in _SUBCOMMANDS:
        command = commands.add_parser(name, help=summary, description=summary, parents=[shared], allow_abbrev=False)
        add(command)
        command.set_defaults(run=target)
    commands.add_parser("broker", help="the privileged part alone", add_help=False).set_defaults(run=_broker)
    return top


def _add_shared(to: argparse.ArgumentParser) -> None:
    group = to.add_argument_group("configuration")
    group.add_argument("--config.file", dest="config_file", metavar="F", help="YAML; without it the defaults")
    group.add_argument("--role", choices=("node", "cluster", "all"), help="overrides `role` of the configuration")
    group.add_argument(
        "--inventory.file",
        dest="inventory_file",
        metavar="F",
        help="a kind: List of the cluster's objects; implies source file",
    )
    group.add_argument(
        "--broker.socket",
        dest="broker_socket",
        metavar="S",
        help="a running broker; without it one is found or started",
    )
    web = to.add_argument_group("web")
    web.add_argument(
        "--web.listen-address",
        dest="listen",
        action="append",
        metavar="A",
        help=f"[HOST]:PORT, repeatable (default ${LISTEN_ADDRESS}, else :10046)",
    )
    web.add_argument(
        "--web.config.file",
        dest="web_config_file",
        metavar="F",
        help="TLS and basic auth, in exporter-toolkit's format",
    )
    web.add_argument("--web.telemetry-path", dest="telemetry_path", metavar="P", help="default /metrics")
    web.add_argument(
        "--web.enable-lifecycle",
        dest="enable_lifecycle",
        action="store_true",
        help="allow POST /-/reload from anywhere",
    )
    logs = to.add_argument_group("log (to stderr)")
    logs.add_argument("--log.level", dest="log_level", choices=[level.value for level in LogLevel], help="default info")
    logs.add_argument(
        "--log.format", dest="log_format", choices=[form.value for form in LogFormat], help="default logfmt"
    )


def _add_check(to: argparse.ArgumentParser) -> None:
    to.add_argument("--output", choices=("text", "json"), default="text", help="default text")
    to.add_argument(
        "--fail-on",
        choices=("info", "warning", "critical"),
        default="warning",
        help="exit 1 from this severity on (default warning)",
    )
    to.add_argument("--last", action="store_true", help="the running daemon's last report instead of new rounds")
    to.add_argument("--nodes", choices=("all",), help="collect the reports of every exporter (role cluster)")


def _add_vantage(to: argparse.ArgumentParser) -> None:
    where = to.add_mutually_exclusive_group()
    where.add_argument("--pod", metavar="NS/NAME", default="", help="from inside this pod of this node")
    where.add_argument("--netns", metavar="NAME|PATH", default="", help="from inside this network namespace")
    to.add_argument("--family", choices=("any", "4", "6"), default="any", help="default any: each family apart")


def _add_probe(to: argparse.ArgumentParser) -> None:
    to.add_argument("target", metavar="HOST:PORT", help="a name, or an address with IPv6 in brackets")
    _add_vantage(to)
    to.add_argument(
        "--layers", default="", metavar="L", help="of icmp,tcp,tls,http (default icmp,tcp; with tls on port 443)"
    )


def _add_resolve(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "name", metavar="NAME", help="as an application gives it to getaddrinfo; a final dot keeps the search list out"
    )
    _add_vantage(to)
    to.add_argument(
        "--resolv-conf", dest="resolv_conf", metavar="FILE", default="", help="ask the nameservers of this file"
    )
    to.add_argument("--output", choices=("text", "json"), default="text", help="default text")


def _add_nothing(to: argparse.ArgumentParser) -> None:
    """A subcommand of shared flags alone."""


def _options(parsed: argparse.Namespace) -> Options:
    given = {k: v for k, v in vars(parsed).items() if k in Options.__dataclass_fields__}
    if "listen" in given:
        given["listen"] = tuple(given["listen"])
    elif os.environ.get(LISTEN_ADDRESS):
        given["listen"] = (os.environ[LISTEN_ADDRESS],)
    options = Options(**given)
    configure(LogLevel(options.log_level), LogFormat(options.log_format))
    return options


def _daemon(parsed: argparse.Namespace) -> int:
    from exporter.daemon.launch import launch  # noqa: PLC0415 - config and --help need none of it

    return launch(_options(parsed))


def _config(parsed: argparse.Namespace) -> int:
    sys.stdout.write(format_config(_options(parsed).load()))
    return 0


def _broker(parsed: argparse.Namespace) -> int:  # noqa: ARG001 - every subcommand has this signature
    raise CommandError("broker stands first and has flags of its own (see dualstack-exporter broker --help)")


def _reference(parsed: argparse.Namespace) -> int:  # noqa: ARG001 - every subcommand has this signature
    from exporter.report.reference import reference  # noqa: PLC0415 - only this subcommand needs it

    sys.stdout.write(reference())
    return 0


def _check(parsed: argparse.Namespace) -> int:
    from exporter.cli.check import check  # noqa: PLC0415 - see _daemon

    return _one_shot(lambda options: check(options, parsed), parsed)


def _probe(parsed: argparse.Namespace) -> int:
    from exporter.cli.probe import probe  # noqa: PLC0415 - see _daemon

    return _one_shot(lambda options: probe(options, parsed), parsed)


def _resolve(parsed: argparse.Namespace) -> int:
    from exporter.cli.resolve import resolve  # noqa: PLC0415 - see _daemon

    return _one_shot(lambda options: resolve(options, parsed), parsed)


def _one_shot(work: Callable[[Options], int], parsed: argparse.Namespace) -> int:
    """A one-shot command logs warnings and worse unless told otherwise: its output is what counts."""
    if "log_level" not in parsed:
        parsed.log_level = "warn"
    return work(_options(parsed))


_SUBCOMMANDS: tuple[
    tuple[str, str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]], ...
] = (
    ("check", "a report of what is wrong and why", _add_check, _check),
    ("probe", "one probe, each step shown", _add_probe, _probe),
    ("resolve", "what A and AAAA answer, and what glibc and musl would give an application", _add_resolve, _resolve),
    ("config", "check the configuration and print the effective one", _add_nothing, _config),
    ("reference", "the tables of metrics, causes, alerts and configuration", _add_nothing, _reference),
)
