"""A scripted DNS server and programs that resolve through it; runs as root in namespaces of its own, made by the
caller.

Reads {"addresses", "listen", "script", "runs"} as JSON from stdin and prints the outcome of each run, in order. Every
run gets its resolv.conf by a bind mount in its own mount namespace. The caller gives network, mount and process
namespaces, so that nothing is left.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

AT_ONCE = 16  # programs that run at the same time: most of their time is waiting
MOUNTED = (
    'mount --bind "$1" /etc/resolv.conf && mount --bind "$2" /etc/nsswitch.conf && mount --bind "$3" /etc/hosts '
    '&& shift 3 && exec "$@"'
)
Script = dict[tuple[str, str, str], dict[str, Any]]


def respond(query: bytes, spec: dict[str, Any]) -> bytes:
    """The scripted message as reply to this query; it carries an OPT record if the query does."""
    if "raw" in spec:
        return query[:2] + bytes.fromhex(spec["raw"])
    request = dns.message.from_wire(query)
    question = request.question[0]
    response = dns.message.make_response(request, recursion_available=spec["ra"])
    response.set_rcode(spec["rcode"])
    response.flags |= (dns.flags.AA if spec["aa"] else 0) | (dns.flags.TC if spec["tc"] else 0)
    owner = question.name.to_text()
    if spec["cname"]:
        response.answer.append(dns.rrset.from_text(owner, 60, "IN", "CNAME", f"{spec['cname']}."))
        owner = f"{spec['cname']}."
    if spec["addresses"]:
        response.answer.append(dns.rrset.from_text(owner, 60, "IN", question.rdtype, *spec["addresses"]))
    if spec["soa"]:
        response.authority.append(dns.rrset.from_text(".", 60, "IN", "SOA", ". . 1 1 1 1 1"))
    return response.to_wire()


def lookup(script: Script, query: bytes, server: str) -> dict[str, Any]:
    """The line of the script for this query, or for all of that first label; names outside it do not exist."""
    question = dns.message.from_wire(query).question[0]
    name = question.name.to_text(omit_final_dot=True).lower()
    missing = {"rcode": 3, "aa": False, "ra": True, "tc": False, "soa": True, "cname": "", "addresses": []}
    qtype = dns.rdatatype.to_text(question.rdtype)
    found = script.get((name, qtype, server)) or script.get((f"{name.partition('.')[0]}.*", qtype, server))
    return found or {"delay": 0.0, "udp": missing, "tcp": missing}


class Datagrams(asyncio.DatagramProtocol):
    """UDP of one nameserver address."""

    def __init__(self, script: Script, server: str) -> None:
        self.script, self.server = script, server
        self.seen: dict[Any, float] = {}  # when each socket last sent a query that was answered

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            line = lookup(self.script, data, self.server)
        except dns.exception.DNSException:
            return  # what musl 1.2.3 makes of a search domain "."
        loop = asyncio.get_running_loop()
        if line["udp"] is None or loop.time() - self.seen.get(addr, -1.0) < line.get("window", 0.0):
            return
        self.seen[addr] = loop.time()
        loop.call_later(line["delay"], self.transport.sendto, respond(data, line["udp"]), addr)


async def serve_stream(script: Script, server: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """TCP of one nameserver address: replies in the order asked, an end of the connection where the script has none."""
    try:
        while True:
            query = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
            spec = lookup(script, query, server)["tcp"]
            if spec is None:
                break
            reply = respond(query, spec)
            writer.write(len(reply).to_bytes(2) + reply)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the program has what it wanted
    finally:
        writer.close()


async def run(program: list[str], files: list[str], turn: asyncio.Semaphore) -> str:
    async with turn:
        command = ["unshare", "--mount", "sh", "-c", MOUNTED, "sh", *files, *program]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return output.decode() if process.returncode == 0 else f"exit {process.returncode}"


async def main(work: dict[str, Any], folder: Path) -> list[str]:
    script: Script = {(line["name"], line["qtype"], line["server"]): line for line in work["script"]}
    loop = asyncio.get_running_loop()
    faults: list[str] = []
    loop.set_exception_handler(lambda _, context: faults.append(repr(context)))
    for server in work["listen"]:
        await loop.create_datagram_endpoint(functools.partial(Datagrams, script, server), local_addr=(server, 53))
        await asyncio.start_server(functools.partial(serve_stream, script, server), server, 53)
    hosts, switch = folder / "hosts", folder / "nsswitch.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    switch.write_text("hosts: files dns\n")
    turn = asyncio.Semaphore(AT_ONCE)
    jobs = []
    for index, job in enumerate(work["runs"]):
        file = folder / f"resolv.conf.{index}"
        file.write_bytes(job["resolv_conf"].encode("latin-1"))
        jobs.append(run(job["program"], [str(file), str(switch), str(hosts)], turn))
    outcomes = await asyncio.gather(*jobs)
    if faults:
        raise RuntimeError("\n".join(faults))
    return outcomes


if __name__ == "__main__":
    given = json.load(sys.stdin)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for text in given["addresses"]:
        bits = 32 if ipaddress.ip_address(text).version == 4 else 128
        subprocess.run(
            ["ip", "address", "add", f"{text}/{bits}", "dev", "lo", "nodad"][: 7 if bits == 128 else 6], check=True
        )
    with tempfile.TemporaryDirectory() as folder_name:
        json.dump(asyncio.run(main(given, Path(folder_name))), sys.stdout)
