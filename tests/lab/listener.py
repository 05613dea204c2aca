"""Something that listens: plain TCP on the given ports over both families, or a TLS web server with a given
certificate.

    python -m tests.lab.listener [--cgroup=PATH] [--root=DIRECTORY] PORT[/4|/6][+TLS_PEM] ...

The certificate is read anew for each connection. In a pod's cgroup and root directory the process stands for the pod.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
import sys
import threading

from tests.lab import cgroups

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
FAMILIES = {"4": (socket.AF_INET,), "6": (socket.AF_INET6,), "": (socket.AF_INET, socket.AF_INET6)}


def _listen(family: int, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    sock.listen(128)
    return sock


def _serve(connection: socket.socket, pem: str) -> None:
    connection.settimeout(5)
    try:
        with _wrapped(connection, pem) as stream:
            if stream.recv(4096):
                stream.sendall(RESPONSE)
    except (OSError, ssl.SSLError):
        connection.close()


def _wrapped(connection: socket.socket, pem: str) -> socket.socket:
    if not pem:
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context.wrap_socket(connection, server_side=True)


def main(arguments: list[str]) -> None:
    selector = selectors.DefaultSelector()
    options = dict(text.removeprefix("--").split("=", 1) for text in arguments if text.startswith("--"))
    for text in arguments:
        if not text.startswith("--"):
            place, _, pem = text.partition("+")
            port, _, only = place.partition("/")
            for family in FAMILIES[only]:
                selector.register(_listen(family, int(port)), selectors.EVENT_READ, pem)
    if "cgroup" in options:
        cgroups.enter(options["cgroup"])
    if "root" in options:
        os.chroot(options["root"])
        os.chdir("/")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        for key, _ in selector.select():
            listener = key.fileobj
            assert isinstance(listener, socket.socket)
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection, key.data), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
