"""CNI configuration: the conflist of a node, and Calico's template of it in a ConfigMap. Pure parsers to CniConfig.

The template is not JSON until Calico's installer fills it in: __CNI_MTU__ stands unquoted. Calico's assign_ipv4 and
assign_ipv6 are strings; IPv4 is on unless "false", IPv6 is off unless "true", and a JSON boolean fails to parse
(cni-plugin/pkg/types).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from exporter.inventory.parse.fields import items, mapping, name_of, number, text, texts
from exporter.model.component import CniConfig
from exporter.model.family import parse_net

MAX_LENGTH = 1 << 20
MAX_POOLS = 50
_PLACEHOLDER = re.compile(r"(?<=[:\s\[,])__[A-Z0-9_]{1,64}__(?=\s*[,}\]])")


def parse_cni_config(content: str, *, source: str) -> CniConfig:
    """The main plugin's configuration. `source` is the file's path or configmap/NAMESPACE/NAME; trouble is told in `error`."""
    if len(content) > MAX_LENGTH:
        return CniConfig(source=source, error="larger than 1 MiB")
    try:
        document = json.loads(_PLACEHOLDER.sub("null", content))
    except ValueError as error:
        return CniConfig(source=source, error=f"not JSON: {str(error)[:200]}")
    except RecursionError:
        return CniConfig(source=source, error="not JSON: nested too deeply")
    fields = mapping(document)
    plugins = items(fields.get("plugins")) or [fields]
    main = mapping(plugins[0])
    if not text(main.get("type")):
        return CniConfig(source=source, error="it names no plugin")
    ipam = mapping(main.get("ipam"))
    v4, v6 = ipam.get("assign_ipv4"), ipam.get("assign_ipv6")
    wrong = [
        name
        for name, value in (("assign_ipv4", v4), ("assign_ipv6", v6))
        if value is not None and not isinstance(value, str)
    ]
    return CniConfig(
        source=source,
        main_plugin=text(main.get("type")),
        assign_ipv4=v4 != "false",
        assign_ipv4_text=_written(v4),
        assign_ipv6=v6 == "true",
        assign_ipv6_text=_written(v6),
        mtu=number(main.get("mtu")) or None,
        error=f"{' and '.join(wrong)} must be a string; Calico refuses the file" if wrong else "",
        ipam=text(ipam.get("type")),
        pools=_named((*texts(ipam.get("ipv4_pools")), *texts(ipam.get("ipv6_pools")))[:MAX_POOLS]),
    )


def _written(value: object) -> str | None:
    """A switch as it stands in the file."""
    if isinstance(value, str):
        return value[:40] if value.isprintable() else ascii(value)[:40]
    return None if value is None else json.dumps(value)[:40]


def _named(pools: Iterable[str]) -> tuple[str, ...]:
    """Pools as the configuration names them: by CIDR, written as in IPPool objects, or by name."""
    return tuple(found for found in (str(parse_net(each) or name_of(each)) for each in pools) if found)


def parse_calico_config(data: Mapping[str, str], *, source: str) -> CniConfig | None:
    """ConfigMap calico-config; None where it holds no cni_network_config (another plugin writes the file)."""
    content = data.get("cni_network_config", "")
    return parse_cni_config(content, source=source) if content else None
