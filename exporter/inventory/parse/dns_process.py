"""What a pod's spec shows of the CoreDNS that it runs: arguments, image, mounted ConfigMaps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
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
    local = addresses(address for value in _values(words, LOCAL_IP) for address in value.split(","))
    image = any(IMAGE in text(each.get("image")) for each in containers)
    given = any(word.replace("--", "-", 1).partition("=")[0] == CONF for word in words)
    if not given and not local and not image:
        return None
    maps = {text(each.get("name")): _config_maps(each) for each in objects(spec.get("volumes"))}
    sources = sorted((e for each in maps.values() for e in each), key=lambda each: flag(each.get("optional")) is True)
    names = [name for source in sources if (name := name_of(source.get("name")))]  # those that must be there first
    cache = flag(spec.get("hostNetwork")) is True and (image or bool(local))
    keys = tuple(found for each in containers for found in _keys(each, _values(words, CONF), maps))
    return DnsProcess(
        config_maps=tuple(names)[:MAX_MAPS],
        local_ips=local if cache else (),
        node_cache=cache,
        keys=keys[:MAX_MAPS],
    )


def _config_maps(volume: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The ConfigMaps of a volume, projected ones as well."""
    projected = objects(mapping(volume.get("projected")).get("sources"))
    return [found for each in (volume, *projected) if (found := mapping(each.get("configMap")))]


def _keys(
    container: Mapping[str, Any], files: Iterable[str], maps: Mapping[str, list[Mapping[str, Any]]]
) -> Iterator[tuple[str, str]]:
    """The ConfigMap and the key behind the path of a file: by what is mounted there, and the volume's items."""
    for file, mount in product(files, objects(container.get("volumeMounts"))):
        at, inside = text(mount.get("mountPath")).rstrip("/"), text(mount.get("subPath"))
        if file != at and (inside or not file.startswith(f"{at}/")):
            continue
        path = inside or file.removeprefix(f"{at}/")
        for source in maps.get(text(mount.get("name")), ()):
            items = objects(source.get("items"))
            chosen = (text(each.get("key")) for each in items if text(each.get("path")) == path)
            key = next(chosen, "") if items else path
            if key and (name := name_of(source.get("name"))):
                yield name, key


def _values(words: list[str], wanted: str) -> list[str]:
    """What stands behind an option, as the next word or after the equals sign."""
    found = []
    for at, word in enumerate(words):
        option, given, value = word.replace("--", "-", 1).partition("=")
        if option == wanted:
            found.append(value if given else "".join(words[at + 1 : at + 2]))
    return found
