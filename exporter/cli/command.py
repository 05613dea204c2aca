"""The command line: flags to options, subcommands to what they run, outcomes to exit statuses.

Follows docs/specification.md section 2. Bad input gets one clear line on stderr and exit status 2, with nothing
half-started. The work is in daemon/ and in the other modules of cli/.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NoReturn

from exporter import __version__
from exporter.config.document import ConfigError
from exporter.config.reference import format_config, format_schema
from exporter.daemon.options import CommandError, Options
from exporter.model.cause import Role
from exporter.model.probe import Layer
from exporter.telemetry.logs import LogFormat, LogLevel, configure

BAD_INPUT = 2
PROGRAM = "dualstack-exporter"
# For the daemon of a container and for commands run in it: the variables that stand for flags.
VARIABLES = {
    "config_file": "DUALSTACK_EXPORTER_CONFIG_FILE",
    "role": "DUALSTACK_EXPORTER_ROLE",
    "broker_socket": "DUALSTACK_EXPORTER_BROKER_SOCKET",
    "web_listen_address": "DUALSTACK_EXPORTER_LISTEN_ADDRESS",
    "web_config_file": "DUALSTACK_EXPORTER_WEB_CONFIG_FILE",
}


def run(arguments: Sequence[str]) -> int:
    """Parse and run; the exit status is that of the subcommand, or 2 for bad input."""
    try:
        options = parse(arguments, os.environ)
        # Of a command that runs once, the output matters: it logs warnings and worse unless told otherwise.
        level = options.log_level or (LogLevel.WARN if options.command else LogLevel.INFO)
        options.log = configure(LogLevel(level), LogFormat(options.log_format))
        return _run_command(options)
    except (ConfigError, CommandError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        sys.stderr.close()  # the reader is gone; Python would print an error at exit
        return 128 + signal.SIGPIPE


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """The flags, else the variables that stand for them. CommandError for bad input."""
    options = Options()
    parser().parse_args(arguments, options)
    for name, variable in VARIABLES.items():
        value = environment.get(variable)
        if value and name not in vars(options):
            setattr(options, name, [value] if name == "web_listen_address" else value)
    if options.role and options.role not in [*Role]:
        raise CommandError(f"${VARIABLES['role']}: {options.role!r} is none of {', '.join(Role)}")
    return options


class _Parser(argparse.ArgumentParser):
    """Bad flags get one line, as all bad input does; --help shows the usage."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """All flags and subcommands. Flags go before or after the subcommand, and cannot be abbreviated."""
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
    commands = top.add_subparsers(title="subcommands", metavar="COMMAND", dest="command")
    for name, summary, add_flags in _SUBCOMMANDS:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary,
            parents=[shared],
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        add_flags(command)
    commands.add_parser("broker", help="only the privileged part", add_help=False)
    return top


def _add_shared(to: argparse.ArgumentParser) -> None:
    config = to.add_argument_group("configuration")
    _flag(config, "--config.file", metavar="F", help="YAML; the defaults without it")
    _flag(config, "--role", choices=[*map(str, Role)], help="overrides `role` of the configuration")
    _flag(config, "--inventory.file", metavar="F", help="a kind: List of the cluster's objects; implies source file")
    _flag(config, "--broker.socket", metavar="S", help="a running broker; without it one is found or started")
    web = to.add_argument_group("web")
    listen = "[HOST]:PORT, repeatable; :10046 without it"
    _flag(web, "--web.listen-address", action="append", metavar="A", help=listen)
    _flag(web, "--web.config.file", metavar="F", help="TLS and basic auth, in exporter-toolkit's format")
    _flag(web, "--web.telemetry-path", metavar="P", help="default /metrics")
    _flag(web, "--web.enable-lifecycle", action="store_true", help="allow POST /-/reload from anywhere")
    log = to.add_argument_group("log (to stderr)")
    _flag(log, "--log.level", choices=[*map(str, LogLevel)], help="default info")
    _flag(log, "--log.format", choices=[*map(str, LogFormat)], help="default logfmt")


def _flag(to: argparse._ActionsContainer, name: str, **how: Any) -> None:
    """A flag whose value is the attribute of Options of the same name."""
    dest = name.removeprefix("--").replace(".", "_").replace("-", "_")
    if dest in VARIABLES:
        how["help"] += f" (or ${VARIABLES[dest]})"
    to.add_argument(name, dest=dest, **how)


def _add_check(to: argparse.ArgumentParser) -> None:
    to.add_argument("--output", choices=("text", "json", "prometheus"), help="default text")
    to.add_argument(
        "--fail-on", choices=("info", "warning", "critical"), help="exit 1 from this severity on (default warning)"
    )
    to.add_argument("--last", action="store_true", help="the running daemon's last report instead of new rounds")
    to.add_argument("--nodes", choices=("all",), help="collect the reports of every exporter (role cluster)")


def _add_output(to: argparse.ArgumentParser) -> None:
    to.add_argument("--output", choices=("text", "json"), help="default text")


def _add_vantage(to: argparse.ArgumentParser) -> None:
    where = to.add_mutually_exclusive_group()
    where.add_argument("--pod", metavar="NS/NAME", help="from inside this pod of this node")
    where.add_argument("--netns", metavar="NAME|PATH", help="from inside this network namespace")
    to.add_argument("--family", choices=("any", "4", "6"), help="default any: each family apart")


def _add_probe(to: argparse.ArgumentParser) -> None:
    to.add_argument("target", metavar="TARGET", help="HOST:PORT, with IPv6 in brackets, or a configured target")
    _add_vantage(to)
    to.add_argument("--layers", metavar="L", help=f"of {','.join(Layer)} (default icmp,tcp; with tls on port 443)")


def _add_resolve(to: argparse.ArgumentParser) -> None:
    to.add_argument("name", metavar="NAME", help="as passed to getaddrinfo; a final dot disables the search list")
    _add_vantage(to)
    to.add_argument("--resolv-conf", dest="resolv_conf", metavar="FILE", help="ask the nameservers of this file")
    _add_output(to)


def _add_migration(to: argparse.ArgumentParser) -> None:
    to.add_argument("--output", choices=("text", "json", "markdown"), help="default text")
    to.add_argument(
        "--to", choices=("dual-stack", "ipv6"), help="default dual-stack; ipv6 alone where `families` is [IPv6]"
    )
    to.add_argument("--nodes", choices=("all",), help="collect from every node exporter what only a node shows")


def _add_explain(to: argparse.ArgumentParser) -> None:
    to.add_argument("name", metavar="NAME", help="such as dns_aaaa_blocked or DualstackDnsAaaaBlocked")


def _add_config(to: argparse.ArgumentParser) -> None:
    to.add_argument("--schema", action="store_true", help="print the JSON Schema of the file instead")


_SUBCOMMANDS: tuple[tuple[str, str, Callable[[argparse.ArgumentParser], None]], ...] = (
    ("check", "a report of what is wrong and why", _add_check),
    ("probe", "one probe, each step shown", _add_probe),
    ("resolve", "what A and AAAA answer, and what glibc and musl would give an application", _add_resolve),
    ("migration", "what stands between this cluster and dual-stack, in order", _add_migration),
    ("explain", "the runbook of a cause or an alert", _add_explain),
    ("config", "check the configuration and print the effective one", _add_config),
    ("reference", "the tables of metrics, causes, alerts and configuration", lambda _: None),
)


def _run_command(options: Options) -> int:
    """The exit status. Each command is only imported when it runs: config and --help need none of the others."""
    match options.command:
        case "check" | "probe" | "resolve" | "migration" | "explain" as name:  # each in the module of its name
            command: Callable[[Options], int] = getattr(import_module(f"exporter.cli.{name}"), name)
        case "config":
            sys.stdout.write(format_schema() if options.schema else format_config(options.load()))
            return 0
        case "reference":
            from exporter.report.reference import reference  # noqa: PLC0415

            sys.stdout.write(reference())
            return 0
        case "broker":
            raise CommandError("broker must come first and has its own flags (see dualstack-exporter broker --help)")
        case _:
            from exporter.daemon.launch import launch as command  # noqa: PLC0415
    return command(options)
