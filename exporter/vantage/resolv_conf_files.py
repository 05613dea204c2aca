"""The resolv.conf files that the exporter reads itself: the host's, and those of named namespaces. A pod's comes from the broker."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.dns import ResolvConf

_LIMIT = 65536  # bytes


def read_own_resolv_conf(path: str = "/etc/resolv.conf") -> ResolvConf | None:
    """The host's resolv.conf: the exporter's own file (its pod has dnsPolicy Default). None where there is none."""
    try:
        with Path(path).open("rb") as file:
            return parse_resolv_conf(file.read(_LIMIT))
    except OSError:
        return None


def read_named_resolv_conf(name: str) -> ResolvConf | None:
    """/etc/netns/NAME/resolv.conf, as `ip netns exec` would mount it (ip-netns(8)); None where there is none."""
    return None if os.sep in name or name.startswith(".") else read_own_resolv_conf(f"/etc/netns/{name}/resolv.conf")
