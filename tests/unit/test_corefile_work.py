"""Corefiles that are made to be expensive cost a bounded number of steps, and one that is merely large is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.inventory.corefile.corefile import read_corefile
from exporter.model.cluster.corefile import Corefile
from tests.work import calls_of

pytestmark = pytest.mark.attack

DATA = Path(__file__).resolve().parents[1] / "data/attacks"
MOST = 3_000_000  # calls: about half a second
MANY = 20_000
NOT_READ = ("too many lists that meet; it was not read",)
ZONES = " ".join(f"z{n:x}" for n in range(MANY))
AAAA = "template IN AAAA {0} {{\n rcode NXDOMAIN\n}}\n"


def many(text: str, count: int = MANY, first: int = 0) -> str:
    """The text so many times, with # for the number of each."""
    return "".join(text.replace("#", f"{number:x}") for number in range(first, first + count))


LOCAL = " ".join(f"127.0.0.1:{port:x}" for port in range(60))
VIEW = "view v {\n  expr type() == 'AAAA' && type() == 'A'\n }\n"
EXPENSIVE = {
    "zones meet zones": f"{ZONES} {{\n kubernetes {ZONES}\n acl {ZONES} {{\n block type AAAA\n }}\n}}",
    "zones in many directives": f"{ZONES} {{\n" + many(" acl z# {\n  drop type AAAA\n }\n") + "}",
    "zones answered one after the other": f"{ZONES} {{\n" + AAAA.format("") * 200 + "}",
    "policies for each zone": many("z# ", 2000) + "{\n acl {\n" + "  block type A\n" * MANY + " }\n}",
    "server blocks": many("z# {\n}\n"),
    "server blocks with views": many(f"z# {{\n {VIEW}}}\n", 2000),
    "templates meet templates": ". {\n" + many(AAAA.format("z#") + "template IN A z# {\n}\n", 3000) + "}",
    "names of hosts meet zones": f"{ZONES} {{\n hosts {{\n" + many("  192.0.2.1 a.z#\n") + " }\n}",
    "forwards in circles": many(f"z#:1# {{\n forward . {LOCAL}\n acl {{\n block type AAAA\n }}\n}}\n", 60) * 20,
    "answers of blanks": '. {\n template IN AAAA {\n answer "' + ("A x" + " " * 2000) * 200 + 'y"\n }\n}',
    "answers of types": '. {\n template IN AAAA {\n answer "' + "A " * 100_000 + '\nx"\n }\n}',
    "texts of directives": ZONES[:20_000] + " {\n template IN AAAA {\n rcode NXDOMAIN\n " + "x " * MANY + "\n }\n}",
    "snippets in snippets": many("(s#) {\n import t#\n import t#\n}\n", 400) + ". {\n import s0\n}",
    "braces": "{ " * MANY + "} " * MANY,
    "open quotes": '" \\" ' * MANY,
}


def read(content: str, custom: dict[str, str] | None = None) -> Corefile:
    return read_corefile("kube-system", "coredns", {"Corefile": content}, custom)


@pytest.mark.parametrize("name", EXPENSIVE)
def test_lists_that_meet_lists_are_bounded(name: str) -> None:
    assert calls_of(lambda: read(EXPENSIVE[name])) < MOST


@pytest.mark.parametrize("path", sorted(DATA.glob("corefile-*.bin")), ids=lambda path: path.name)
def test_a_file_that_imports_itself_is_bounded(path: Path) -> None:
    content = path.read_bytes().decode("utf-8", "replace")
    assert calls_of(lambda: read(content, {"x": content})) < MOST


def test_imports_of_files_without_a_word_are_bounded() -> None:
    custom = {f"f{n}": "#\n" * 1000 for n in range(500)}
    content = ". {\n" + "".join(f" import /custom/f{'?' * (n % 3 + 1)}\n import f{n}\n" for n in range(900)) + "}"
    assert calls_of(lambda: read(content, custom)) < MOST


def test_what_costs_too_much_says_so_and_claims_nothing() -> None:
    found = read(EXPENSIVE["zones meet zones"])
    assert (found.errors, found.blocks, found.cluster_domains) == (NOT_READ, (), ())


def test_a_large_corefile_of_a_company_is_read() -> None:
    """A hundred stub domains with forwards, thousands of hosts, a template and an acl."""
    stubs = "".join(f"corp{n}.example:53 {{\n errors\n cache 30\n forward . 192.0.2.{n}\n}}\n" for n in range(100))
    hosts = "".join(f"  192.0.2.{n % 250} host{n}.corp.example\n" for n in range(3000))
    main = (
        ".:53 {\n errors\n kubernetes cluster.local in-addr.arpa ip6.arpa\n hosts {\n" + hosts + "  fallthrough\n }\n"
    )
    found = read(f"{main} {AAAA.format('.')} forward . /etc/resolv.conf\n}}\n{stubs}")
    assert found.errors == ()
    assert found.cluster_domains == ("cluster.local",)
    assert any(block.plugin == "template" for block in found.blocks)
