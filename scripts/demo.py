"""A demonstration: a small dual-stack cluster of network namespaces, the exporter in one node, and a fault on demand.

    python -m scripts.demo [FAULT] [--once]

Shows `check` healthy, broken and healed; meanwhile http://localhost:10046 is the status page, over both families.
With --once, or without a terminal, it does not wait for Enter.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import selectors
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.lab.cluster import Cluster
from tests.lab.fault import LABS
from tests.lab.faults import FAULTS

PORT = 10046
CLONE_NEWNET = 0x40000000
PATIENCE = 60


def socket_inside(namespace: str) -> socket.socket:
    """A socket that dials from inside the node: made on a thread of its own, which enters the namespace and ends."""
    made: list[socket.socket] = []

    def make() -> None:
        with Path(f"/run/netns/{namespace}").open("rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        made.append(socket.socket(socket.AF_INET))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def relay(namespace: str, listener: socket.socket) -> None:
    """Hand each connection to localhost on to the exporter inside the node."""
    while True:
        try:
            here, _ = listener.accept()
        except OSError:
            return
        there = socket_inside(namespace)
        try:
            there.connect(("127.0.0.1", PORT))  # some faults take the node's IPv6 away
        except OSError:  # not up yet
            here.close()
            there.close()
            continue
        threading.Thread(target=_pump, args=(here, there), daemon=True).start()


def _pump(here: socket.socket, there: socket.socket) -> None:
    with here, there, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
        selector.register(here, selectors.EVENT_READ, there)
        selector.register(there, selectors.EVENT_READ, here)
        while True:
            for key, _ in selector.select():
                source = here if key.fd == here.fileno() else there
                data = source.recv(65536)
                if not data:
                    return
                key.data.sendall(data)


def listen() -> list[socket.socket]:
    """At localhost over each family that this machine has."""
    listeners = [socket.create_server(("127.0.0.1", PORT))]
    with contextlib.suppress(OSError):  # IPv6 is disabled here
        listeners.append(socket.create_server(("::1", PORT), family=socket.AF_INET6))
    return listeners


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def check(cluster: Cluster, config: Path) -> None:
    inside = ["ip", "netns", "exec", cluster.node.netns]
    subprocess.run([*inside, sys.executable, "-m", "exporter", "check", f"--config.file={config}"], check=False)
    sys.stdout.flush()


def wait_ready() -> None:
    """Until the daemon has finished a round."""
    for _ in range(PATIENCE * 5):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/-/ready", timeout=2) as response,
        ):
            if response.status == 200:
                return
        threading.Event().wait(0.2)
    raise SystemExit("the exporter did not get ready")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="FAULT is one of: " + ", ".join(sorted(FAULTS)))
    parser.add_argument("fault", nargs="?", default="masquerade_rule_removed", metavar="FAULT")
    parser.add_argument("--once", action="store_true", help="do not wait for Enter")
    asked = parser.parse_args()
    if asked.fault not in FAULTS:
        parser.error(f"no fault {asked.fault!r}")
    return asked


@contextlib.contextmanager
def exporter_in(cluster: Cluster, interval: str = "3s") -> Iterator[Path]:
    """The exporter in the cluster's node, ready and reachable at localhost; gives its configuration file."""
    config = cluster.config(cluster.node, interval=interval, timeout="2500ms")
    inside = ["ip", "netns", "exec", cluster.node.netns]
    command = [*inside, sys.executable, "-m", "exporter", f"--config.file={config}", "--log.level=error"]
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(listener) for listener in listen()]
        for listener in listeners:
            threading.Thread(target=relay, args=(cluster.node.netns, listener), daemon=True).start()
        daemon = stack.enter_context(subprocess.Popen(command))
        try:
            wait_ready()
            yield config
        finally:
            for listener in listeners:
                listener.shutdown(socket.SHUT_RDWR)
            daemon.terminate()


def main() -> None:
    asked = arguments()
    fault = FAULTS[asked.fault]

    waits = not asked.once and sys.stdin is not None and sys.stdin.isatty()

    def pause(text: str) -> None:
        if waits:
            input(f"\n{text} [Enter] ")

    backend = fault.backends[0]
    lab = LABS[backend]() if backend in LABS else None
    with Cluster(lab=lab, backend=backend) as cluster, exporter_in(cluster) as config:
        say(f"Three nodes, six pods; the exporter runs in {cluster.node.name}: http://localhost:{PORT}\n\nHealthy:\n")
        check(cluster, config)
        pause(f"Break it: {asked.fault} ({fault.says})?")
        fault.act(cluster)
        say(f"\nBroken: {asked.fault}, {fault.says}\n")
        check(cluster, config)
        pause("Heal it?")
        cluster.heal()
        say("\nHealed:\n")
        check(cluster, config)
        pause("End?")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the lab is taken down
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        main()
