"""What the probes of the bench talk to: servers in the hub, a client in C, and the driver of blackbox_exporter.

`python -m tests.bench.probe_peers serve CERT KEY` serves TCP, DNS and HTTPS over both families until its input ends;
`drive SECONDS URL...` fetches all URLs over one connection, spread over that time.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
import struct
import sys
import time
from collections.abc import Sequence
from typing import cast
from urllib.parse import urlsplit

TCP, DNS, HTTPS = 7000, 53, 8443
NAME = "hub.bench.test"
ADDRESSES = ("10.99.0.1", "fd99::1")

# Dials every namespace once over each address, spread over the time, and prints for each dial in microseconds the
# kernel's round-trip time and the time until connect() returned.
C_CLIENT = r"""
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <linux/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) { /* SECONDS PORT ADDRESS4 ADDRESS6 NAMESPACE... */
    double began = now(), seconds = atof(argv[1]);
    int pods = argc - 5;
    for (int i = 0; i < 2 * pods; i++) {
        double due = ceil(seconds * i / (2 * pods) * 4) / 4, left = began + due - now(); /* on ticks of 0.25 s */
        if (left > 0) usleep(left * 1e6);
        int ns = open(argv[5 + i / 2], O_RDONLY | O_CLOEXEC);
        if (ns < 0 || setns(ns, CLONE_NEWNET)) return 1;
        close(ns);
        struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[2]))};
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
        inet_pton(AF_INET, argv[3], &four.sin_addr);
        inet_pton(AF_INET6, argv[4], &six.sin6_addr);
        int s = socket(i % 2 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        double dialled = now();
        if (i % 2 ? connect(s, (void *)&six, sizeof six) : connect(s, (void *)&four, sizeof four)) return 2;
        double took = now() - dialled;
        struct tcp_info info;
        socklen_t size = sizeof info;
        getsockopt(s, IPPROTO_TCP, TCP_INFO, &info, &size);
        printf("%u %.1f\n", info.tcpi_rtt, took * 1e6);
        close(s);
    }
    return 0;
}
"""


class Nameserver(asyncio.DatagramProtocol):
    """One AAAA or A record for whatever is asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        end = data.index(b"\0", 12) + 5
        kind = data[end - 4 : end - 2]
        record = bytes(15) + b"\1" if kind == b"\0\x1c" else bytes(4)
        answer = b"\xc0\x0c" + kind + b"\0\1" + struct.pack("!IH", 60, len(record)) + record
        self._transport.sendto(data[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + data[12:end] + answer, addr)


async def serve(cert: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    loop = asyncio.get_running_loop()

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    for address in ADDRESSES:
        await asyncio.start_server(close, address, TCP, backlog=4096)
        await asyncio.start_server(answer, address, HTTPS, backlog=4096, ssl=context)
        await loop.create_datagram_endpoint(Nameserver, (address, DNS))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


def drive(seconds: float, urls: Sequence[str]) -> None:
    """Prints how many of them succeeded."""
    began, good = time.monotonic(), 0
    connection = http.client.HTTPConnection(urlsplit(urls[0]).netloc)
    for number, url in enumerate(urls):
        time.sleep(max(0.0, began + seconds * number / len(urls) - time.monotonic()))
        connection.request("GET", url)
        good += b"\nprobe_success 1\n" in connection.getresponse().read()
    sys.stdout.write(f"{good}\n")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(*sys.argv[2:]))
    else:
        drive(float(sys.argv[2]), sys.argv[3:])
