"""What several rules of a round need is computed once: each nameserver's verdict, each path's samples and matches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exporter.diagnosis import chance
from exporter.diagnosis import samples as path_samples
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.engine.verdict import Memory, judge
from exporter.diagnosis.rules.dns import samples as dns_samples
from exporter.diagnosis.rules.dns import servers
from exporter.diagnosis.rules.path import path
from exporter.diagnosis.rules.registry import RULES
from exporter.model.probe import Group
from tests.captures import capture, server
from tests.unit.scene import pod, seen, target
from tests.unit.scene import view as path_view
from tests.unit.test_dns_rules import ONE, asked_by
from tests.unit.test_dns_rules import view as dns_view


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str, Callable[..., Any]], Counter[Any]]:
    """Counts the calls of a module's function by what `key` makes of their arguments."""

    def count(module: Any, name: str, key: Callable[..., Any]) -> Counter[Any]:
        calls: Counter[Any] = Counter()
        real = getattr(module, name)

        def called(*args: Any, **keywords: Any) -> Any:
            calls[key(*args, **keywords)] += 1
            return real(*args, **keywords)

        monkeypatch.setattr(module, name, called)
        return calls

    return count


def test_a_round_asks_for_each_nameservers_verdict_once(
    counted: Callable[[Any, str, Callable[..., Any]], Counter[Any]],
) -> None:
    verdicts = counted(servers, "aaaa_verdict", lambda now, *_, qtype, **__: (now[0].question.server.address, qtype))
    histories = counted(dns_samples, "by_question", lambda *_: "history")
    answers = capture("bind-filter-aaaa-yes").values()
    view = dns_view((*asked_by(ONE, answers), *asked_by(ONE, answers, server("2001:db8::53"))))
    judge(view, Memory(), rules=RULES)
    assert servers.aaaa_blocks(view) == servers.aaaa_blocks(view)
    assert verdicts == {
        (of.address, t): 1 for of in (server("192.0.2.53"), server("2001:db8::53")) for t in ("A", "AAAA")
    }
    assert histories == {"history": 1}


def test_a_round_chooses_the_dials_that_count_and_matches_pairs_once(
    counted: Callable[[Any, str, Callable[..., Any]], Counter[Any]],
) -> None:
    made = seen(pod("web"), target("peers", Group.PEERS, peer="b"), "icmp6=ok tcp6=timeout tcp4=ok")
    counting = counted(path_samples, "_after", lambda *_: "dials")
    nodes = counted(chance, "services_on", lambda *_: "services")
    shows = counted(path, "_enough", lambda *_: "blocked")
    view = path_view(kept=made)
    view = replace(view, snapshot=replace(view.snapshot))
    for counts in (counting, nodes, shows):
        counts.clear()
    judge(view, Memory(), rules=RULES)
    assert counting == {"dials": 2}  # of one pair, for path causes and for the others
    assert nodes == {"services": 1}
    assert shows == {"blocked": 3}  # by the pairs, and by each of the last two probes


def test_another_round_is_judged_by_itself() -> None:
    first = dns_view(asked_by(ONE, capture("bind-filter-aaaa-yes").values()))
    second = dns_view(asked_by(ONE, capture("coredns-template-refused").values()))
    kinds: list[str] = [servers.aaaa_blocks(view)["cluster_dns"] for view in (first, second, first)]
    assert kinds == ["filtered", "refused", "filtered"]
    assert first != RuleInput(now=first.now, snapshot=first.snapshot, previous=first.previous, expect=first.expect)
