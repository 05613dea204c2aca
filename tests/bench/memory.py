"""Memory of exporter and broker on a busy node, against blackbox_exporter's while it probes the same targets.

Both as on a node where nothing else runs Python: a page of a file counts once for exporter and broker together, and in
full. The kernel's PSS is less here, since the servers of the scene share Python's files.
"""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.bench.node_scene import TARGETS, BusyNode, busy_node
from tests.bench.table import Row
from tests.kernel import namespaces

PORT = 9115
CLIENTS, PROBES = 16, 100
MODULE = "modules: {https: {prober: http, http: {tls_config: {insecure_skip_verify: true}}}}\n"
# What asks blackbox_exporter, in the host's namespace.
CLIENT = f"""
import threading, urllib.request
def ask(number):
    for _ in range({PROBES}):
        urllib.request.urlopen("http://127.0.0.1:{PORT}/probe?module=https&target=https://{TARGETS[0][0]}").read()
threads = [threading.Thread(target=ask, args=(n,)) for n in range({CLIENTS})]
for each in threads: each.start()
for each in threads: each.join()
"""


def measure(*, short: bool) -> Iterator[Row]:
    pods, rounds, settled = (5, 4, 2) if short else (250, 200, 60)
    with busy_node(pods, interval=2.0) as node:
        early = memory_at(node, settled)
        late = memory_at(node, rounds)
        other = blackbox_memory(node)
    what = f"memory, {pods} pods, {rounds} rounds"
    detail = f"{late / 2**20:.1f} MiB, {other / 2**20:.1f} MiB"
    yield Row(what, "blackbox_exporter under load", late / other, 3.0, "x", detail)
    yield Row(what, f"the same after {settled}", late / early, 1.05, "x", f"{early / 2**20:.1f} MiB before")


def memory_at(node: BusyNode, rounds: int) -> int:
    node.wait_rounds(rounds)
    return memory_of(node.exporter, node.broker)


def memory_of(*processes: int) -> int:
    """Bytes, each file's pages as many as the process has that uses most of it."""
    anonymous, files = 0, defaultdict[str, int](int)
    for process in processes:
        own = defaultdict[str, int](int)
        for name, resident, private in mappings(Path(f"/proc/{process}/smaps").read_text().splitlines()):
            anonymous += private
            own[name] += resident - private
        files |= {name: max(size, files[name]) for name, size in own.items()}
    return anonymous + sum(files.values())


def mappings(lines: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    """Of each mapping the file, and its bytes in memory: all, and the anonymous ones."""
    name, resident = "", 0
    for line in lines:
        key, *values = line.split()
        if not key.endswith(":"):
            name = " ".join(values[4:])
        elif key == "Rss:":
            resident = int(values[0]) << 10
        elif key == "Anonymous:":
            yield name, resident, int(values[0]) << 10


def blackbox_memory(node: BusyNode) -> int:
    """The most that it has while it is asked."""
    inside = ("nsenter", f"--net={namespaces.path_of(node.host)}")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(MODULE)
        config.flush()
        address = f"127.0.0.1:{PORT}"
        words = ["prometheus-blackbox-exporter", f"--config.file={config.name}", f"--web.listen-address={address}"]
        process = subprocess.Popen([*inside, *words], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        reader = threading.Thread(target=process.stderr.read)
        try:
            while "Listening on" not in process.stderr.readline():
                assert process.poll() is None
            reader.start()
            client = subprocess.Popen([*inside, "python3", "-c", CLIENT])
            seen = [memory_of(process.pid)]
            while client.poll() is None:
                seen.append(memory_of(process.pid))
            assert client.returncode == 0
        finally:
            process.kill()
            process.wait()
            if reader.is_alive():
                reader.join()
            process.stderr.close()
    return max(seen)
