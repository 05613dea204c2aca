"""What a good configuration becomes: defaults, implied values, round trips, and the reference made of the same
schema.
"""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import trustme
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.document import ConfigError
from exporter.config.kinds import Section
from exporter.config.load import load_config
from exporter.config.network_kinds import POD_SERVERS, DnsServer
from exporter.config.reference import format_config, list_keys, mask_secrets
from exporter.config.schema import Config, Expectation, RecordType, SourceKind, VantageKind
from exporter.model.cause import Role
from exporter.model.family import Family
from exporter.model.probe import Layer

CONTRACT = Path(__file__).parents[1] / "data" / "config" / "contract.yaml"


def load(text: str | bytes, **environment: str) -> Config:
    return load_config(text, path="config.yaml", environment=environment, hostname="node-a")


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n", "{}", "~", b"\xef\xbb\xbf", "\ufeff{}"])
def test_an_empty_file_gives_every_default(text: str | bytes) -> None:
    assert load(text) == Config(node_name="node-a")


def test_the_documented_file_states_the_defaults() -> None:
    stated = load(CONTRACT.read_text())
    plain = Config(
        node_name="ra", targets=stated.targets, dns=dataclasses.replace(Config().dns, names=stated.dns.names)
    )
    assert stated == plain


def test_targets_are_read_with_their_own_defaults() -> None:
    pypi, web = load(CONTRACT.read_text()).targets
    assert pypi.layers == (Layer.ICMP, Layer.TCP, Layer.TLS, Layer.HTTP)
    assert (pypi.status, pypi.timeout, pypi.families) == (((200, 200),), 5.0, None)
    assert web.addresses == (ip_address("2001:db8:ffff::80"), ip_address("198.51.100.80"))
    assert (web.path, web.status, web.expect, web.timeout) == ("/", ((200, 399),), Expectation.REACHABLE, None)
    assert web.vantages == (VantageKind.HOST, VantageKind.POD)
    (bare,) = load("targets: [{name: a, host: a.test, port: 80}]").targets
    assert bare.layers == (Layer.TCP,)


def test_a_phase_of_a_connection_brings_tcp_with_it() -> None:
    (target,) = load("targets: [{name: a, host: a.test, port: 80, layers: [icmp, http]}]").targets
    assert target.layers == (Layer.ICMP, Layer.TCP, Layer.HTTP)


def test_icmp_alone_needs_no_port() -> None:
    (target,) = load("targets: [{name: a, host: '2001:db8::1', layers: [icmp]}]").targets
    assert target.port is None


def test_addresses_are_text_whatever_yaml_makes_of_colons() -> None:
    # YAML 1.1 reads 1:2:3:4:5:6:7:8 as a sexagesimal number, and 2001-01-01 as a date.
    (target,) = load("targets: [{name: 2001-01-01, host: a.test, port: 80, addresses: [1:2:3:4:5:6:7:8]}]").targets
    assert target.name == "2001-01-01"
    assert target.addresses == (ip_address("1:2:3:4:5:6:7:8"),)


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("200-399", ((200, 399),)),
        ("204", ((204, 204),)),
        ("[200, 301]", ((200, 200), (301, 301))),
        ("[200-204, 404]", ((200, 204), (404, 404))),
    ],
)
def test_status_codes_are_ranges_or_lists(text: str, ranges: tuple[tuple[int, int], ...]) -> None:
    (target,) = load(f"targets: [{{name: a, host: a.test, port: 80, status: {text}}}]").targets
    assert target.status == ranges


def test_an_empty_list_means_none_and_an_absent_key_the_default() -> None:
    assert load("dns: {}").dns.names is None
    assert load("dns: {names: []}").dns.names == ()
    assert load("dns: {servers: []}").dns.servers == ()
    assert load("dns: {}").dns.servers == (POD_SERVERS,)
    assert load("expect: {services: []}").expect.services == ()
    assert load("peers: {layers: []}").peers.layers == ()
    assert load("dns: {names: [{name: a.test, expect: []}]}").dns.names == (
        dataclasses.replace(load("dns: {names: [{name: a.test}]}").dns.names[0], expect=()),  # type: ignore[index]
    )


def test_families_keep_one_order() -> None:
    assert load("families: [IPv6, IPv4]").families == (Family.V4, Family.V6)
    assert load("families: auto").families is None


def test_dns_servers_may_be_the_pods_own_or_named() -> None:
    dns = load(
        "dns: {servers: [pod, {name: corp, address: '2001:db8::53'}], reference: [192.0.2.1], allow: [10.0.0.0/8, "
        "'2001:db8::1']}"
    ).dns
    assert dns.servers == (POD_SERVERS, DnsServer(name="corp", address=ip_address("2001:db8::53")))
    assert dns.reference == (DnsServer(name="reference", address=ip_address("192.0.2.1")),)
    assert dns.allow == (ip_network("10.0.0.0/8"), ip_network("2001:db8::1/128"))
    assert load("dns: {names: [{name: a.test}]}").dns.names[0].expect == (RecordType.A, RecordType.AAAA)  # type: ignore[index]


def test_node_name_is_the_key_then_the_variable_then_the_host_name() -> None:
    assert load("node_name: ra", NODE_NAME="rb").node_name == "ra"
    assert load("", NODE_NAME="rb").node_name == "rb"
    assert load("", NODE_NAME="").node_name == "node-a"
    assert load_config("", path="", environment={}, hostname="Ann's laptop!").node_name == "Ann-s-laptop"
    assert load_config("", path="", environment={}, hostname="").node_name == "localhost"


def test_deadlines_left_to_their_defaults_shrink_with_a_shorter_interval() -> None:
    config = load("round: {interval: 3s}")
    assert config.round.timeout == 2.5
    assert {name: config.timeouts[name] for name in ("dns", "tcp", "http")} == {"dns": 2.0, "tcp": 2.5, "http": 2.5}


def test_a_named_file_or_kubeconfig_implies_its_source(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("inventory: {file: cluster.yaml}")
    config = load_config(path=str(path), environment={}, hostname="node-a")
    assert (config.inventory.source, config.inventory.file) == (SourceKind.FILE, str(tmp_path / "cluster.yaml"))
    assert load("inventory: {kubeconfig: /k}").inventory.source is SourceKind.KUBERNETES


def test_flags_stand_above_the_file() -> None:
    config = load_config(
        "role: node\ninventory: {source: kubernetes, kubeconfig: /k}",
        path="config.yaml",
        environment={},
        hostname="node-a",
        role="cluster",
        inventory_file="/tmp/bundle.yaml",
    )
    assert config.role is Role.CLUSTER
    assert (config.inventory.source, config.inventory.file, config.inventory.kubeconfig) == (
        SourceKind.FILE,
        "/tmp/bundle.yaml",
        "",
    )


def test_ca_files_start_at_the_configuration_file_and_may_hold_comments(tmp_path: Path) -> None:
    pem = trustme.CA().cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes("# Aussteller: Bücher\n".encode() + pem)
    path = tmp_path / "config.yaml"
    path.write_text("targets: [{name: a, host: a.test, port: 443, layers: [tcp, tls], ca_file: ca.pem}]")
    (target,) = load_config(path=str(path), environment={}, hostname="node-a").targets
    assert target.ca_file == str(tmp_path / "ca.pem")


def test_no_file_at_all_gives_the_defaults() -> None:
    assert load_config(path="", environment={"NODE_NAME": "n"}, hostname="h") == Config(node_name="n")


def test_aliases_are_understood() -> None:
    config = load(
        "targets: [{name: a, host: a.test, port: 80, layers: &deep [tcp, http]}, {name: b, host: b.test, port: 80, "
        "layers: *deep}]"
    )
    assert config.targets[0].layers == config.targets[1].layers


@pytest.mark.parametrize(
    "text",
    [
        "",
        CONTRACT.read_text(),
        "round: {interval: 1s}",
        "dns: {names: [], reference: ['2001:db8::1']}",
        "node_name: 'no'\nfamilies: [IPv6]\npods: {selector: 'app in (a,b),!x'}",
    ],
)
def test_the_effective_configuration_loads_to_the_same_configuration(text: str) -> None:
    config = load(text)
    assert load_config(format_config(config), path="other.yaml", environment={}, hostname="elsewhere") == config


def test_values_named_like_secrets_are_masked() -> None:
    assert mask_secrets({"a": [{"Password": "x", "user": "y"}]}) == {"a": [{"Password": "<secret>", "user": "y"}]}


def test_the_reference_has_a_row_for_every_key_of_the_effective_configuration() -> None:
    def keys(plain: object, path: str) -> set[str]:
        if isinstance(plain, dict):
            return {key for name, value in plain.items() for key in keys(value, f"{path}.{name}" if path else name)}
        if isinstance(plain, list) and plain and isinstance(plain[0], dict):
            return {path} | {key for item in plain for key in keys(item, f"{path}[]")}
        return {path}

    effective = yaml.safe_load(format_config(load(CONTRACT.read_text())))
    assert keys(effective, "") == {row.key for row in list_keys()}


def test_every_row_of_the_reference_says_something() -> None:
    rows = {row.key: row for row in list_keys()}
    assert all(row.type and row.default and row.meaning for row in rows.values())
    assert (rows["round.interval"].type, rows["round.interval"].default) == ("duration", "30s")
    assert rows["targets[].name"].default == "required"
    assert rows["peers.layers"].default == "[icmp, tcp]"
    assert rows["node_name"].default == "$NODE_NAME, then the host name"


def test_every_stated_default_is_a_value_of_its_kind() -> None:
    assert all(option.default is not dataclasses.MISSING for option in Section(Config).options.values())
    assert load(format_config(load(""))) == load("")


_WORDS = st.sampled_from(
    [
        "role",
        "targets",
        "pods",
        "dns",
        "name",
        "host",
        "sample",
        "30s",
        "0",
        "yes",
        "~",
        "a b",
        "::1",
        "[",
        "}",
        "\n",
        "&a",
        "*a",
    ]
)
_TREES = st.recursive(
    _WORDS | st.integers() | st.booleans() | st.none() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*Section(Config).options, "name", "host", "port", "layers", "x"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(
    st.one_of(
        st.text(max_size=60),
        st.binary(max_size=60),
        st.lists(_WORDS, max_size=12).map(" ".join),
        _TREES.map(yaml.safe_dump),
    )
)
def test_whatever_the_text_it_is_a_configuration_or_one_printable_line(text: str | bytes) -> None:
    config, problem = None, ""
    try:
        config = load(text)
    except ConfigError as error:
        problem = str(error)
    assert problem.isprintable()
    assert problem.encode("ascii", "backslashreplace")[:13] == b"config.yaml: "[: len(problem)]
    assert config is None or load(format_config(config)) == config
