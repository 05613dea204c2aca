"""What each recorded Corefile, and each corner of the language, makes of AAAA."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from exporter.inventory.corefile.corefile import read_corefile
from exporter.model.cluster.corefile import AaaaTreatment, Corefile
from tests.unit import recorded

Found = list[tuple[str, str, AaaaTreatment, int, bool]]


def read(content: str, custom: Mapping[str, str] | None = None, **files: str) -> Corefile:
    return read_corefile("kube-system", "coredns", {"Corefile": content, **files}, custom)


def found(corefile: Corefile) -> Found:
    """Zone, plugin, fate, line, all names."""
    return [(b.zone, b.plugin, b.fate, b.line, b.all_names) for b in corefile.blocks]


NODATA = AaaaTreatment.NODATA


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("commented-template", []),
        ("dns64", []),
        ("forward-microk8s-default", []),
        ("healthy", []),
        ("hosts-and-acl", [(".", "acl", AaaaTreatment.FILTERED, 7, True)]),
        ("import-custom-files", [(".", "template", NODATA, 1, True)]),
        ("rewrite-name", []),
        ("rewrite", [(".", "rewrite", AaaaTreatment.REWRITTEN, 7, True)]),
        ("snippet-import", [(".", "template", NODATA, 2, True)]),
        ("template-a-only", []),
        ("template-answering-aaaa", []),
        ("template-any-oneline", [(".", "template", NODATA, 7, True)]),
        ("template-fallthrough-regex", [(".", "template", NODATA, 7, False)]),
        ("template-noerror", [(".", "template", NODATA, 7, True)]),
        ("template-nxdomain", [(".", "template", AaaaTreatment.NXDOMAIN, 7, True)]),
        ("template-one-zone", [("example.test", "template", NODATA, 7, False)]),
        ("template-refused", [(".", "template", AaaaTreatment.REFUSED, 7, True)]),
    ],
)
def test_a_recorded_corefile_withholds_exactly_this(name: str, expected: Found) -> None:
    custom = recorded.config_map("coredns-custom")
    corefile = read_corefile("kube-system", "coredns", recorded.config_map(f"coredns-{name}"), custom)
    assert found(corefile) == expected
    assert corefile.cluster_domains == ("cluster.local",)
    assert corefile.errors == ()
    assert corefile.dns64 is (name == "dns64")


def test_every_recorded_corefile_is_expected_above() -> None:
    assert len(list((recorded.DATA / "configmap").glob("coredns-*.json"))) == 17 + 1  # and coredns-custom


def test_an_imported_directive_names_the_configmap_it_lies_in() -> None:
    custom = recorded.config_map("coredns-custom")
    corefile = read_corefile("kube-system", "coredns", recorded.config_map("coredns-import-custom-files"), custom)
    assert [block.file for block in corefile.blocks] == ["coredns-custom/noaaaa.override"]


def test_zones_served_by_other_blocks_are_exceptions() -> None:
    corefile = read_corefile("kube-system", "coredns", recorded.config_map("coredns-snippet-import"))
    assert [block.except_zones for block in corefile.blocks] == [("cluster.local", "example.test")]


def server(*lines: str, zones: str = ".:53") -> str:
    return "\n".join([f"{zones} {{", *lines, "}"])


TEMPLATE = "template IN AAAA . {\n rcode NOERROR\n}"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # The order of plugins is CoreDNS's own: what acts first is told, what is never reached is not.
        (server(TEMPLATE, "rewrite type AAAA A"), [(".", "rewrite", AaaaTreatment.REWRITTEN, 5, True)]),
        (server(TEMPLATE, "acl {\n block type AAAA\n}"), [(".", "acl", AaaaTreatment.REFUSED, 5, True)]),
        (server("acl {\n drop type AAAA net *\n}"), [(".", "acl", AaaaTreatment.DROPPED, 2, True)]),
        # acl: the first policy that fits decides, and what takes A as well is no matter of families.
        (server("acl {\n block\n}"), []),
        (server("acl {\n allow type A\n block\n}"), [(".", "acl", AaaaTreatment.REFUSED, 2, True)]),
        (server("acl {\n allow\n filter type AAAA\n}"), []),
        (server("acl {\n filter type AAAA net 10.0.0.0/8\n}"), [(".", "acl", AaaaTreatment.FILTERED, 2, False)]),
        (server("acl {\n filter type AAAA net 0.0.0.0/0 ::/0\n}"), [(".", "acl", AaaaTreatment.FILTERED, 2, True)]),
        (server("acl example.test {\n filter type AAAA\n}"),
            [("example.test", "acl", AaaaTreatment.FILTERED, 2, False)]),
        (server("acl {\n filter type A\n}"), []),
        # template: class and type, zones, fallthrough, answers.
        (server("template CH AAAA\ntemplate IN MX"), []),
        (server("template ANY AAAA"), [(".", "template", NODATA, 2, True)]),
        (server("template IN AAAA { rcode SERVFAIL }"), [(".", "template", AaaaTreatment.SERVFAIL, 2, True)]),
        (server("template IN ANY example.test {\n rcode NXDOMAIN\n}"), []),
        (server('template IN ANY . {\n answer "{{ .Name }} 60 IN A 192.0.2.1"\n}'),
            [(".", "template", NODATA, 2, True)]),
        (server('template IN AAAA . {\n answer "{{ .Name }} 60 IN AAAA 2001:db8::1"\n}', TEMPLATE), []),
        (server('template IN AAAA . {\n answer "{{ .Name }} 60 IN CNAME x.test."\n}'), []),
        (server('template IN ANY . {\n answer "{{ .Name }} 60 IN {{ .Type }} x"\n}'), []),
        # Names that match no regex get SERVFAIL where fallthrough is missing.
        (server('template IN AAAA . {\n match "^a\\.test\\.$"\n rcode NXDOMAIN\n}'),
            [(".", "template", AaaaTreatment.SERVFAIL, 2, True)]),
        (server('template IN AAAA . {\n match ".*"\n rcode NOERROR\n fallthrough\n}'),
            [(".", "template", NODATA, 2, True)]),
        (
            server('template IN AAAA example.test {\n match "^a\\."\n answer "{{ .Name }} 1 IN AAAA ::2"\n fallthrough '
                'other.test\n}'),
            [("example.test", "template", AaaaTreatment.SERVFAIL, 2, False)],
        ),
        # A second template behind one that settles the zone is never reached; behind one that falls through it is.
        (server("template IN AAAA example.test {\n rcode NXDOMAIN\n}", "template IN AAAA a.example.test"),
         [("example.test", "template", AaaaTreatment.NXDOMAIN, 2, False)]),
        (server('template IN AAAA . {\n match "^a\\."\n answer "{{ .Name }} 1 IN AAAA ::2"\n fallthrough\n}', TEMPLATE),
         [(".", "template", NODATA, 7, True)]),
        # Server zones bound everything.
        (server(TEMPLATE, zones="example.test"), [("example.test", "template", NODATA, 2, False)]),
        (server("template IN AAAA other.test", zones="example.test"), []),
        (server("template IN AAAA", zones="a.test b.test:53"),
         [("a.test", "template", NODATA, 2, False), ("b.test", "template", NODATA, 2, False)]),
        (server("template IN AAAA", zones="in-addr.arpa ip6.arpa 10.0.0.0/8"), []),
        # rewrite: only a change of type away from AAAA.
        (server("rewrite continue type AAAA A"), [(".", "rewrite", AaaaTreatment.REWRITTEN, 2, True)]),
        (server("rewrite stop {\n type AAAA A\n}"), [(".", "rewrite", AaaaTreatment.REWRITTEN, 2, True)]),
        (server("rewrite type A AAAA\nrewrite type ANY HINFO"), []),
        # dns64 stands before all of them and asks for A where they gave nothing.
        (server("dns64 {\n allow_ipv4\n}", TEMPLATE), []),
        (server("dns64 {\n allow_ipv4\n}", "template IN AAAA { rcode NXDOMAIN }"), []),
        (server("dns64 {\n allow_ipv4\n}",
            'template IN AAAA {\n rcode NXDOMAIN\n authority ". 60 IN SOA a. b. 1 1 1 1 1"\n}'),
            [(".", "template", AaaaTreatment.NXDOMAIN, 5, True)]),
        # hosts: a name of IPv4 alone has no AAAA then.
        (server("hosts {\n 10.0.0.1 a.test b.test\n 2001:db8::1 a.test\n fallthrough\n}"),
            [("b.test", "hosts", NODATA, 2, False)]),
        (server("view v {\n expr true\n}", TEMPLATE), [(".", "template", NODATA, 5, False)]),
        # A goes elsewhere by the view of an earlier block, and nothing answers AAAA here.
        (server("view v {\n expr type() == 'A'\n}", "forward . 192.0.2.1") + "\n" + server("errors"),
            [(".", "view", AaaaTreatment.SERVFAIL, 2, True)]),
        # Other transports and ports serve others, where port 53 is served.
        (server(TEMPLATE, zones="tls://.") + "\n" + server("cache"), []),
        (server(TEMPLATE, zones=".:5353") + "\n" + server("cache"), []),
        (server(TEMPLATE, zones=".:5353"), [(".", "template", NODATA, 2, True)]),
    ],
)  # fmt: skip
def test_directives_act_as_coredns_runs_them(content: str, expected: Found) -> None:
    assert found(read(content)) == expected


def test_dns64_without_allow_ipv4_leaves_the_block_to_clients_over_ipv4() -> None:
    corefile = read(server("dns64", TEMPLATE))
    assert [(b.fate, b.ipv4_clients_only) for b in corefile.blocks] == [(NODATA, True)]
    assert corefile.dns64


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("# template IN AAAA\n" + server("cache # template IN AAAA\n"), []),
        ('.:53 {\n "template" IN "AAAA" "."\n}', [(".", "template", NODATA, 2, True)]),
        (".:53,\nexample.test {\n template IN AAAA\n}", [(".", "template", NODATA, 3, True)]),
        (". \n template IN AAAA", [(".", "template", NODATA, 2, True)]),  # one block needs no braces
        ('.:53 {\n log "multi\nline"\n template IN AAAA\n}', [(".", "template", NODATA, 4, True)]),
        ("\ufeff.:53 {\n template IN AAAA\n}", [(".", "template", NODATA, 2, True)]),
        ("(s) {\n template IN AAAA {\n rcode NXDOMAIN\n }\n}\n. {\n import s\n}",
            [(".", "template", AaaaTreatment.NXDOMAIN, 2, True)]),
        ("(s) {\n rcode NXDOMAIN\n}\n. {\n template IN AAAA {\n import s\n }\n}",
            [(".", "template", AaaaTreatment.NXDOMAIN, 5, True)]),
    ],
)  # fmt: skip
def test_the_language_is_read_as_coredns_reads_it(content: str, expected: Found) -> None:
    corefile = read(content)
    assert found(corefile) == expected
    assert corefile.errors == ()


def test_a_file_of_the_same_configmap_can_be_imported() -> None:
    corefile = read(". {\n import extra\n}", extra="template IN AAAA\n")
    assert [(b.file, b.line) for b in corefile.blocks] == [("extra", 1)]


def test_a_pattern_without_files_is_no_error_and_a_missing_file_is_one() -> None:
    assert read(server("import /etc/coredns/custom/*.override")).errors == ()
    assert read(server("import /etc/coredns/elsewhere.conf")).errors == (
        "line 2: the imported /etc/coredns/elsewhere.conf is not known",
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (". {\n cache", "a server block's closing brace is missing"),
        (". {\n template IN AAAA {\n rcode X", "line 2: the closing brace of template is missing"),
        (server("template IN"), "line 2: template needs a class and a type"),
        (server("template IN AAAA { rcode NOTHING }"), "line 2: template does not know rcode NOTHING"),
        (server("acl {\n deny type AAAA\n}"), "line 2: acl does not know deny"),
        ("(a) {\n import a\n}\n. {\n import a\n}", "line 2: too many imports"),
    ],
)
def test_what_coredns_would_refuse_is_said(content: str, problem: str) -> None:
    assert problem in read(content).errors


def test_a_snippet_that_doubles_itself_stays_bounded() -> None:
    content = (
        "\n".join(f"(s{n}) {{\n import s{n + 1}\n import s{n + 1}\n}}" for n in range(40)) + "\n. {\n import s0\n}"
    )
    assert any("too many imports" in error for error in read(content).errors)
