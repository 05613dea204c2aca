"""A nameserver that behaves as CoreDNS 1.13.1 was recorded to (tests/data/dns): the kubernetes plugin, and templates
before it.

    python -m tests.lab.coredns MODE_FILE RECORDS_FILE ADDRESS...

MODE_FILE holds a word that is read at each question: healthy, or one of MODES. RECORDS_FILE is JSON: name -> {"A":
[...], "AAAA": [...]}. What lies below cluster.local and is not there is NXDOMAIN with an SOA; other names are answered
as a forwarder to an honest resolver would.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import random
import socket
import sys
import threading
import time
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

MODES = {
    "noerror": "a template answers AAAA of all names with NOERROR and nothing",
    "nxdomain": "a template answers AAAA of all names with NXDOMAIN",
    "refused": "AAAA of all names is refused",
    "servfail": "AAAA of all names ends in SERVFAIL",
    "dropped": "AAAA questions are dropped",
    "A-refused": "A of all names is refused",
    "filtered": "the upstream removes the AAAA records of names that have them",
    "sinkhole": "AAAA of all names is ::",
    "dns64": "names with A alone get a synthesised AAAA",
    "translating": "dns64 with translate_all: every Service with A gets a synthesised AAAA in place of its own",
    "racing": "of two questions that leave one socket together the second gets no answer",
    "disagreeing": "every other answer about one name is that of an upstream that does not know it",
    "lossy": "half of the questions get no answer",
    "silent": "no question is answered",
    "silent-IPv6": "no question is answered that comes over IPv6",
}
DNS64_PREFIX = 0x0064FF9B << 96  # RFC 6052
TTL = 5
TOGETHER = 0.3  # seconds between two questions of one socket
DISPUTED = "disputed.test"
IP_FREEBIND = 15  # linux/in.h


class Server:
    def __init__(self, mode: Path, records: Path) -> None:
        self._mode = mode
        self._records = records
        self._dice = random.Random(10)
        self._disagreed = itertools.count()
        self._peers: dict[object, float] = {}  # when each socket last asked

    def answer(self, wire: bytes, family: int) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        mode = self._mode.read_text().strip()
        kind = dns.rdatatype.A if mode.startswith("A-") else dns.rdatatype.AAAA
        blocked = question.rdtype == kind and mode in MODES
        if mode == "lossy" and self._dice.random() < 0.5:
            return None
        if mode == "silent" or (mode == "silent-IPv6" and family == socket.AF_INET6) or (blocked and mode == "dropped"):
            return None
        reply = dns.message.make_response(query, recursion_available=not blocked)
        reply.flags |= dns.flags.AA
        fate = mode.removeprefix("A-")
        if blocked and fate in {"noerror", "nxdomain", "refused", "servfail"}:
            reply.set_rcode(dns.rcode.from_text(fate.upper()))
            return reply.to_wire()
        name = question.name.to_text(omit_final_dot=True).lower()
        if mode == "disagreeing" and name == DISPUTED and next(self._disagreed) % 2:
            reply.set_rcode(dns.rcode.NXDOMAIN)
            return reply.to_wire()
        self._serve(reply, name, dns.rdatatype.to_text(question.rdtype), mode if blocked else "")
        return reply.to_wire()

    def _serve(self, reply: dns.message.Message, name: str, qtype: str, mode: str) -> None:
        records = json.loads(self._records.read_text())
        known = records.get(name)
        found = known.get(qtype, []) if known else []
        if mode == "filtered" and found:
            return  # removed from an upstream's answer: no SOA either
        if mode == "sinkhole":
            found = ["::"]
        if known and ((mode == "translating" and name.endswith("cluster.local")) or (mode == "dns64" and not found)):
            found = [
                str(ipaddress.IPv6Address(DNS64_PREFIX + int(ipaddress.IPv4Address(a)))) for a in known.get("A", [])
            ]
        if found:
            reply.answer.append(dns.rrset.from_text(name + ".", TTL, "IN", qtype, *found))
            return
        zone = "cluster.local." if name.endswith("cluster.local") else "test."
        soa = f"ns.dns.{zone} hostmaster.{zone} 1 7200 1800 86400 5"
        reply.authority.append(dns.rrset.from_text(zone, TTL, "IN", "SOA", soa))
        below = any(other.endswith("." + name) for other in records)
        if known is None and not below:
            reply.set_rcode(dns.rcode.NXDOMAIN)

    def datagrams(self, sock: socket.socket) -> None:
        while True:
            wire, peer = sock.recvfrom(65535)
            second = time.monotonic() - self._peers.pop(peer, 0) < TOGETHER
            self._peers[peer] = time.monotonic()
            if second and self._mode.read_text().strip() == "racing":
                continue
            said = self.answer(wire, sock.family)
            if said is not None:
                sock.sendto(said, peer)

    def streams(self, sock: socket.socket) -> None:
        while True:
            connection, _ = sock.accept()
            with connection:
                connection.settimeout(1)
                try:
                    size = int.from_bytes(connection.recv(2), "big")
                    said = self.answer(connection.recv(size), sock.family) if size else None
                    if said is not None:
                        connection.sendall(len(said).to_bytes(2, "big") + said)
                except OSError:
                    continue


def main(mode: str, records: str, *addresses: str) -> None:
    server = Server(Path(mode), Path(records))
    threads = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        datagram = socket.socket(family, socket.SOCK_DGRAM)
        datagram.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
        datagram.bind((address, 53))
        stream = socket.socket(family, socket.SOCK_STREAM)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stream.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
        stream.bind((address, 53))
        stream.listen(64)
        threads += [
            threading.Thread(target=server.datagrams, args=(datagram,)),
            threading.Thread(target=server.streams, args=(stream,)),
        ]
    for thread in threads:
        thread.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(*sys.argv[1:])
