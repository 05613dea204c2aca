"""The flags of the commands that run once, beside the shared ones. Filled by command.py."""

from __future__ import annotations

from exporter.daemon.options import Options


class CommandOptions(Options):
    """The shared flags and those of each command, typed. Each attribute here is the flag's default."""

    output: str = "text"
    # check
    fail_on: str = "warning"
    last: bool = False
    nodes: str = ""
    # probe, resolve
    pod: str = ""
    netns: str = ""
    family: str = "any"
    target: str = ""
    layers: str = ""
    name: str = ""
    resolv_conf: str = ""
