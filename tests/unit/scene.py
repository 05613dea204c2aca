"""Small constructors of snapshots for the rules' scenarios: what is not named is healthy and absent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address

from exporter.diagnosis.chance import chance_of
from exporter.diagnosis.engine.rule_input import NO_CHANCE, RuleInput
from exporter.model.cause import Role
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory
from exporter.model.dial import Dials, dials_of
from exporter.model.facts import HostFacts
from exporter.model.family import Family
from exporter.model.grouping import grouped
from exporter.model.probe import Group, Layer, Observation, Outcome, Target
from exporter.model.report import PodView, Snapshot
from exporter.model.vantage import Netns, PodState, Vantage

V4, V6 = Family.V4, Family.V6
HOST = Vantage(kind="host", namespace="", name="ra", netns=None)


def pod(name: str, *, state: PodState = PodState.ELIGIBLE, families: tuple[Family, ...] = (V4, V6)) -> Vantage:
    return Vantage(
        kind="pod",
        namespace="default",
        name=name,
        netns=Netns(device=4, inode=1000),
        state=state,
        families=families,
        uid=f"uid-{name}",
    )


def target(
    name: str, group: Group = Group.OUTSIDE, *, peer: str = "", layers: tuple[Layer, ...] = (Layer.ICMP, Layer.TCP)
) -> Target:
    addresses = {V4: ip_address("192.0.2.80"), V6: ip_address("2001:db8::80")}
    return Target(name=name, group=group, addresses=addresses, port=443, layers=layers, peer=peer)


def seen(
    vantage: Vantage, to: Target, said: str, *, full_size: Outcome | None = None, policy: bool = False
) -> list[Observation]:
    """Observations from words such as `icmp6=ok tcp6=timeout tcp4=ok`."""
    made = []
    for word in said.split():
        where, outcome = word.split("=")
        layer, family = Layer[where[:-1].upper()], V6 if where.endswith("6") else V4
        made.append(
            Observation(
                vantage=vantage, target=to, layer=layer, family=family, outcome=Outcome(outcome), seconds=0.001,
                address=to.addresses[family], time=100.0,
                full_size=full_size if (layer, family) == (Layer.ICMP, V6) else None, full_size_bytes=1450,
                policy=policy,
            )
        )  # fmt: skip
    return made


def dials(history: Iterable[Iterable[Observation]]) -> tuple[Dials, ...]:
    """The dials of these rounds, the newest round first."""
    made = (dial for observations in history for dial in dials_of(observations))
    return tuple(Dials(tuple(each)) for each in grouped(made, lambda d: (d.vantage.key, d.destination)).values())


def view(
    *,
    kept: Iterable[Observation] = (),
    before: Iterable[Observation] | None = None,
    inventory: Inventory = NO_INVENTORY,
    facts: HostFacts | None = None,
    pods: Iterable[PodView] = (),
    role: Role = Role.NODE,
    previous: Snapshot | None = None,
    now: float = 1000.0,
) -> RuleInput:
    """A view in which the probe before showed the same as the kept one, unless `before` is given."""
    kept = tuple(kept)
    earlier = kept if before is None else tuple(before)
    snapshot = Snapshot(
        node="ra", role=role, started=now - 1, finished=now, complete=True, inventory=inventory, host=HOST,
        pods=tuple(pods),
        observations=kept, last=dials_of(kept), before_last=dials_of(earlier), dials=dials((kept, earlier)),
        host_facts=facts,
        families={V4: True, V6: True},
    )  # fmt: skip
    made = RuleInput(now=now, snapshot=snapshot, previous=previous)
    return replace(made, chance=chance_of(made, NO_CHANCE, since=0.0))
