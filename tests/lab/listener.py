"""Something that listens: plain TCP on the given ports over both families, or a TLS web server with a given certificate.

python -m tests.lab.listener PORT[/4][+TLS_PEM] ...
"""

from __future__ import annotations

import selectors
import socket
import ssl
import sys
import threading

RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


def _listen(family: int, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))
    sock.listen(128)
    return sock


def _serve(connection: socket.socket, context: ssl.SSLContext | None) -> None:
    connection.settimeout(5)
    try:
        wrapped = context.wrap_socket(connection, server_side=True) if context else connection
        with wrapped:
            if wrapped.recv(4096):
                wrapped.sendall(RESPONSE)
    except (OSError, ssl.SSLError):
        connection.close()


def main(specifications: list[str]) -> None:
    selector = selectors.DefaultSelector()
    for text in specifications:
        place, _, pem = text.partition("+")
        port, _, only = place.partition("/")
        context = None
        if pem:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
        families = (socket.AF_INET,) if only == "4" else (socket.AF_INET, socket.AF_INET6)
        for family in families:
            selector.register(_listen(family, int(port)), selectors.EVENT_READ, context)
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
