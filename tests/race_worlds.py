"""Worlds of a way to the nameserver that loses AAAA where A left the same socket: at once, or shortly before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from exporter.libc.replies import Answer
from exporter.libc.resolver import all_candidates
from exporter.model.dns import NOERROR, NXDOMAIN, Reply, ResolvConf
from exporter.model.family import Address
from exporter.model.probe import Lost
from tests.worlds import address

FOUND = {"A": "192.0.2.80", "AAAA": "2001:db8::80"}
DELAY = 0.2  # seconds until a reply comes
WINDOWS = {Lost.NEVER: 0.0, Lost.AT_ONCE: DELAY / 2, Lost.IN_TURN: 2 * DELAY}  # seconds behind A in which AAAA is lost


@dataclass(frozen=True)
class RaceWorld:
    name: str
    request: str
    conf: ResolvConf
    lost: Lost

    def resolv_conf(self) -> str:
        conf = self.conf
        numbers = f"ndots:5 timeout:{conf.timeout} attempts:{conf.attempts} {' '.join(conf.options)}"
        return f"nameserver {conf.nameservers[0]}\nsearch {' '.join(conf.search)}\noptions {numbers}\n"

    def _rcode(self, candidate: str) -> int:
        return NOERROR if candidate == self.name else NXDOMAIN

    def answers(self, libc: str) -> dict[tuple[str, str, Address], Answer]:
        del libc
        found = {}
        for name, qtype in product(all_candidates(self.name, self.conf), FOUND):
            has = (address(FOUND[qtype]),) if name == self.name else ()
            reply = Reply(rcode=self._rcode(name), answers=len(has), addresses=has)
            lost = self.lost if qtype == "AAAA" else Lost.NEVER
            found[name, qtype, self.conf.nameservers[0]] = Answer(reply, seconds=DELAY, lost=lost)
        return found

    def script(self) -> list[dict[str, Any]]:
        lines = []
        for name, qtype in product(all_candidates(self.name, self.conf), FOUND):
            has = [FOUND[qtype]] if name == self.name else []
            message: dict[str, Any] = {"rcode": self._rcode(name), "aa": False, "ra": True, "tc": False, "soa": False}
            message |= {"cname": "", "addresses": has}
            line = {"name": name, "qtype": qtype, "server": str(self.conf.nameservers[0]), "delay": DELAY}
            window = WINDOWS[self.lost] if qtype == "AAAA" else 0.0
            lines.append({**line, "udp": message, "tcp": message, "window": window})
        return lines


def every_race(server: Address) -> Iterator[RaceWorld]:
    options = ((), ("single-request",), ("single-request-reopen",))
    for number, (lost, flags, (timeout, attempts), request) in enumerate(
        product(Lost, options, ((1, 1), (2, 2), (2, 1)), ("any", "6"))
    ):
        conf = ResolvConf(
            nameservers=(server,),
            search=("lan",),
            ndots=5,
            timeout=timeout,
            attempts=attempts,
            options=frozenset(flags),
        )
        yield RaceWorld(f"race{number}.test", request, conf, lost)
