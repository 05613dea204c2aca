"""What a pod's spec shows of the CoreDNS that it runs: arguments, image, mounted ConfigMaps. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from exporter.inventory.parse.fields import addresses, flag, mapping, name_of, objects, text, texts
from exporter.model.cluster.corefile import DnsProcess

MAX_MAPS = 10
IMAGE = "k8s-dns-node-cache"
CONF, LOCAL_IP = "-conf", "-localip"


def dns_process(spec: Mapping[str, Any]) -> DnsProcess | None:
    """From a pod's spec; None where no container runs CoreDNS with a configuration."""
    containers = objects(spec.get("containers"))
    words = [word for each in containers for key in ("command", "args") for word in texts(each.get(key))]
    options = [word.replace("--", "-", 1).partition("=")[0] for word in words]
    local = addresses(address for value in _values(words, options) for address in value.split(","))
    image = any(IMAGE in text(each.get("image")) for each in containers)
    if CONF not in options and not local and not image:
        return None
    volumes = objects(spec.get("volumes"))
    projected = (source for each in volumes for source in objects(mapping(each.get("projected")).get("sources")))
    names = (name_of(mapping(source.get("configMap")).get("name")) for source in (*volumes, *projected))
    cache = flag(spec.get("hostNetwork")) is True and (image or bool(local))
    return DnsProcess(tuple(name for name in names if name)[:MAX_MAPS], local if cache else (), cache)


def _values(words: list[str], options: list[str]) -> Iterator[str]:
    """What stands behind -localip, as the next word or after the equals sign."""
    for at, option in enumerate(options):
        if option == LOCAL_IP:
            _, given, value = words[at].partition("=")
            yield value if given else "".join(words[at + 1 : at + 2])
