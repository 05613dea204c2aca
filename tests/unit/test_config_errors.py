"""Every way to write a bad configuration that we know of, and the one line that each of them gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config.document import ConfigError
from exporter.config.load import load_config
from exporter.model.probe import Layer

TARGET = "targets: [{{name: web, host: web.test, port: 80{}}}]"

BAD = [
    # What YAML itself says
    ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
    ("targets: [", "line 1, column 11: expected the node content, but found '<stream end>'"),
    ("pods:\n\tsample: 5", "line 2, column 1: found character '\\t' that cannot start any token"),
    ("role: node\n---\nrole: cluster", "line 2: a second document begins: one is read"),
    ("just words", '"just words" is not a mapping of keys to values'),
    ("- role", "a list is not a mapping of keys to values"),
    ("role: !!python/name:os.system x", 'line 1: the tag "tag:yaml.org,2002:python/name:os.system" is not understood'),
    ("role: node\nrole: node", "role: appears twice, again in line 2"),
    ("pods:\n  sample: 3\n  sample: 3", "pods.sample: appears twice, again in line 3"),
    ("? [a]\n: b", "line 1: a key must be plain text"),
    ("a: *nothing", 'line 1: the alias "*nothing" refers to nothing complete'),
    ("a: &a [*a]", 'line 1: the alias "*a" refers to nothing complete'),
    ('node_name: "\\uD800"', "node_name: holds half a surrogate pair, which is no character"),
    ('node_name: "\\UFFFFFFFF"', "not YAML: a number in it is out of range"),
    ("role: node\nx: \x07", "line 2: the character U+0007 is not allowed in YAML"),
    ("a: " + "[" * 40, "line 1: nested more than 32 deep"),
    (b"role: n\xf6de", "not UTF-8 at byte 7"),
    ("#" * (1024 * 1024 + 1), "larger than 1024 KiB"),
    # Unknown keys
    ("rolle: node", "rolle: unknown key, did you mean role?"),
    ("pods: {smaple: 5}", "pods.smaple: unknown key, did you mean sample?"),
    ("targets: [{name: web, host: web.test, prot: 80}]", "targets[0].prot: unknown key, did you mean port?"),
    ("zzz: 1", "zzz: unknown key"),
    ('"a b\\n": 1', '"a b\\n": unknown key'),
    ("<<: {role: node}", '"<<": unknown key'),
    ("dns: {servers: [{name: corp, address: 192.0.2.53, port: 53}]}", "dns.servers[0].port: unknown key"),
    # Wrong types
    ("pods:", "pods: is empty: leave the key out to take the default"),
    ("targets: ~", "targets: is empty: leave the key out to take the default"),
    ("pods: [1]", "pods: a list is not a mapping"),
    ("pods: {sample: many}", "pods.sample: many is not a number (0-1000)"),
    ("pods: {sample: 2.5}", "pods.sample: 2.5 is not a number (0-1000)"),
    ("pods: {sample: '5'}", 'pods.sample: "5" is text in YAML, not a number (0-1000): leave the quotes out'),
    ("pods: {sample: -1}", "pods.sample: -1 is not a number (0-1000)"),
    ("targets: {name: web}", "targets: a mapping is not a list"),
    ("targets: [web]", "targets[0]: web is not a mapping"),
    ("targets: [~]", "targets[0]: is empty"),
    ("node_name: yes", "node_name: yes is a boolean in YAML, not a node name: quote it"),
    ("node_name: 12", "node_name: 12 is a number in YAML, not a node name: quote it"),
    ("node_name: [a]", "node_name: a list is not a node name"),
    ("node_name: a/b", "node_name: a/b is not a node name"),
    ("node_name: ''", 'node_name: "" is not a node name'),
    ("targets: [{name: 1.5, host: a.test, port: 80}]",
        "targets[0].name: 1.5 is a number in YAML, not a name (letters, digits, . _ -; at most 63): quote it"),
    # Durations
    ("round: {interval: 30}", "round.interval: 30 is not a duration (30s, 1m30s, 500ms)"),
    ("round: {interval: 30 s}", 'round.interval: "30 s" is not a duration (30s, 1m30s, 500ms)'),
    ("round: {interval: 30m1h}", "round.interval: 30m1h is not a duration (30s, 1m30s, 500ms)"),
    ("round: {interval: -5s}", "round.interval: -5s is not a duration (30s, 1m30s, 500ms)"),
    ("round: {interval: 1.5s}", "round.interval: 1.5s is not a duration (30s, 1m30s, 500ms)"),
    ("round: {interval: ''}", 'round.interval: "" is not a duration (30s, 1m30s, 500ms)'),
    ("round: {interval: 0}", "round.interval: 0 is out of range (1s to 1d)"),
    ("round: {interval: 999999999y}", "round.interval: 999999999y is out of range (1s to 1d)"),
    ("timeouts: {tcp: 0s}", "timeouts.tcp: 0s is out of range (1ms to 1d)"),
    ("round: {timeout: 30s}", "round.timeout: 30s is not shorter than round.interval (30s)"),
    ("round: {interval: 10s, timeout: 1m}", "round.timeout: 1m is not shorter than round.interval (10s)"),
    ("timeouts: {http: 26s}", "timeouts.http: 26s is longer than round.timeout (25s)"),
    ("round: {interval: 3s, timeout: 2s}\ntimeouts: {icmp: 2500ms}",
        "timeouts.icmp: 2s500ms is longer than round.timeout (2s)"),
    (TARGET.format(", timeout: 40s"), "targets[0].timeout: 40s is longer than round.timeout (25s)"),
    # Closed sets
    ("role: leader", "role: leader is not one of node, cluster, all"),
    ("families: both", "families: both is not auto or a list of IPv4, IPv6"),
    ("families: []", "families: must not be empty"),
    ("families: [ipv4]", "families[0]: ipv4 is not one of IPv4, IPv6"),
    ("families: [IPv6, IPv6]", "families[1]: IPv6 appears twice"),
    ("dns: {aaaa: off}", "dns.aaaa: off is not one of served, blocked"),
    ("expect: {services: [{policy: dual}]}", "expect.services[0].policy: dual is not one of any, prefer_dual_stack"),
    # Inventory
    ("inventory: {source: file}", "inventory.file: is missing: source is file"),
    ("inventory: {source: none, file: a.yaml}", "inventory.file: is not read: source is none"),
    ("inventory: {file: a.yaml, kubeconfig: b}", "inventory.kubeconfig: is not read: source is file"),
    ("inventory: {source: api}", "inventory.source: api is not one of auto, kubernetes, file, none"),
    # Pods and namespaces
    ("pods: {selector: 'app in web'}",
        'pods.selector: "app in web" is not a label selector (app=web, tier in (a,b), !old)'),
    ("pods: {selector: 'app=web,'}",
        'pods.selector: "app=web," is not a label selector (app=web, tier in (a,b), !old)'),
    ("pods: {namespaces: {include: [kube system]}}",
        'pods.namespaces.include[0]: "kube system" is not a name or pattern (* ? [a-z])'),
    ("netns: {directory: run/netns}", "netns.directory: run/netns is not an absolute directory"),
    # Targets
    ("targets: [{host: web.test, port: 80}]", "targets[0].name: is missing"),
    ("targets: [{name: web, port: 80}]", "targets[0].host: is missing"),
    ("targets: [{name: web, host: web.test}]", "targets[0].port: is missing"),
    ("targets: [{name: a, host: a.test, port: 80}, {name: b, host: b.test, port: 70000}]",
        "targets[1].port: 70000 is not a port (1-65535)"),
    (TARGET.format("}, {name: web, host: b.test, port: 80"), "targets[1].name: web is the name of targets[0] already"),
    ("targets: [{name: service, host: web.test, port: 80}]",
        "targets[0].name: service is reserved for what is found without configuration"),
    ("targets: [{name: peers, host: web.test, port: 80}]",
        "targets[0].name: peers is reserved for what is found without configuration"),
    ("targets: [{name: apiserver, host: web.test, port: 80}]",
        "targets[0].name: apiserver is reserved for what is found without configuration"),
    ("targets: [{name: cluster_dns, host: web.test, port: 80}]",
        "targets[0].name: cluster_dns is reserved for what is found without configuration"),
    ("targets: [{name: 'we b', host: web.test, port: 80}]",
        'targets[0].name: "we b" is not a name (letters, digits, . _ -; at most 63)'),
    ("targets: [{name: web, host: 'https://web.test/', port: 80}]",
        "targets[0].host: https://web.test/ is not a host name or address"),
    ("targets: [{name: web, host: bücher.test, port: 80}]",
        'targets[0].host: "bücher.test" is not a host name or address'),
    ("targets: [{name: web, host: 10.0.0.256, port: 80}]", "targets[0].host: 10.0.0.256 is not a host name or address"),
    ("targets: [{name: web, host: 'fe80::1%eth0', port: 80}]",
        "targets[0].host: fe80::1%eth0 is not a host name or address"),
    (TARGET.format(", layers: []"), "targets[0].layers: must not be empty"),
    (TARGET.format(", layers: [udp]"), f"targets[0].layers[0]: udp is not one of {', '.join(Layer)}"),
    (TARGET.format(", layers: [tcp, icmp]"), "targets[0].layers: out of order, write [icmp, tcp]"),
    (TARGET.format(", layers: [tcp, tcp]"), "targets[0].layers[1]: tcp appears twice"),
    ("targets: [{name: a, host: 192.0.2.1, port: 443, layers: [tls]}]",
        "targets[0].host: tls needs a host name to prove: give one, and put the address under addresses"),
    ("targets: [{name: a, addresses: [192.0.2.1], port: 443, layers: [tls]}]",
        "targets[0].host: tls needs a host name to prove: give one, and put the address under addresses"),
    ("targets: [{name: a, host: 192.0.2.1, addresses: [192.0.2.2], port: 80}]",
        "targets[0].addresses: host is an address itself (192.0.2.1)"),
    (TARGET.format(", addresses: [web.test]"), "targets[0].addresses[0]: web.test is not an IPv4 or IPv6 address"),
    (TARGET.format(", addresses: [192.0.2.1, 192.0.2.2]"),
        "targets[0].addresses: 2 addresses of IPv4: one of each family is dialled"),
    (TARGET.format(", addresses: ['::']"), "targets[0].addresses[0]: :: is no single host's address"),
    (TARGET.format(", addresses: [ff02::1]"), "targets[0].addresses[0]: ff02::1 is no single host's address"),
    (TARGET.format(", addresses: ['fe80::1']"),
        "targets[0].addresses[0]: fe80::1 is link-local: it means something on one link only"),
    (TARGET.format(", addresses: ['::ffff:192.0.2.1']"),
        "targets[0].addresses[0]: ::ffff:192.0.2.1 is an IPv4 address inside IPv6, write 192.0.2.1"),
    (TARGET.format(", families: [IPv6], addresses: [192.0.2.1]"),
        "targets[0].addresses: 192.0.2.1 is IPv4, which families leaves out"),
    (TARGET.format(", families: [IPv4, IPv6], addresses: [192.0.2.1]"),
        "targets[0].families: IPv6 has no address here"),
    ("targets: [{name: a, host: 192.0.2.1, port: 80, families: [IPv6]}]",
        "targets[0].host: 192.0.2.1 is IPv4, which families leaves out"),
    (TARGET.format(", path: simple"), "targets[0].path: simple is not a path that begins with /"),
    (TARGET.format(', path: "/a\\r\\nX: 1"'), 'targets[0].path: "/a\\r\\nX: 1" is not a path that begins with /'),
    (TARGET.format(", status: []"), "targets[0].status: must not be empty"),
    (TARGET.format(", status: [99]"), "targets[0].status[0]: 99 is not a status code or range (200, 200-399)"),
    (TARGET.format(", status: 399-200"), "targets[0].status: 399-200 ends before it begins"),
    (TARGET.format(", vantages: [node]"), "targets[0].vantages[0]: node is not one of host, pod"),
    (TARGET.format(", vantages: []"), "targets[0].vantages: must not be empty"),
    (TARGET.format(", expect: down"), "targets[0].expect: down is not one of reachable, unreachable"),
    (TARGET.format(", ca_file: /nowhere/ca.pem"),
        "targets[0].ca_file: /nowhere/ca.pem cannot be read: No such file or directory"),
    (TARGET.format(", ca_file: /dev/zero"), "targets[0].ca_file: /dev/zero is not a regular file"),
    (TARGET.format(", ca_file: /"), "targets[0].ca_file: / is not a regular file"),
    (TARGET.format(', ca_file: "/a\\0b"'), 'targets[0].ca_file: "/a\\u0000b" is not a file name'),
    # Peers and DNS
    ("peers: {layers: [icmp, tls]}", "peers.layers[1]: tls is not one of icmp, tcp"),
    ("peers: {port: 0}", "peers.port: 0 is not a port (1-65535)"),
    ("dns: {names: [pypi.org]}", "dns.names[0]: pypi.org is not a mapping"),
    ("dns: {names: [{name: 192.0.2.1}]}", "dns.names[0].name: 192.0.2.1 is not a domain name"),
    ("dns: {names: [{name: a..b}]}", "dns.names[0].name: a..b is not a domain name"),
    ("dns: {names: [{name: a.test, expect: [MX]}]}", "dns.names[0].expect[0]: MX is not one of A, AAAA"),
    ("dns: {names: [{name: a.test}, {name: A.TEST.}]}",
        "dns.names[1].name: a.test is the name of dns.names[0] already"),
    ("dns: {servers: [host]}", "dns.servers[0]: host is not pod or {name, address}"),
    ("dns: {servers: [192.0.2.53]}", "dns.servers[0]: 192.0.2.53 is not pod or {name, address}"),
    ("dns: {servers: [{name: other, address: 192.0.2.53}]}",
        "dns.servers[0].name: other is reserved for what is found without configuration"),
    ("dns: {servers: [pod, pod]}", "dns.servers[1]: pod appears twice"),
    ("dns: {servers: [{name: corp}]}", "dns.servers[0].address: is missing"),
    ("dns: {allow: [10.1.2.3/8]}", "dns.allow[0]: 10.1.2.3/8 has host bits set, write 10.0.0.0/8"),
    ("dns: {allow: ['2001:db8::/129']}", "dns.allow[0]: 2001:db8::/129 is not a network (192.0.2.0/24, 2001:db8::/64)"),
    ("dns: {reference: [dns.test]}", "dns.reference[0]: dns.test is not an IPv4 or IPv6 address"),
    ("digest: {url: exporter:10046}",
        "digest.url: exporter:10046 is not an http or https URL without user and password"),
    ("digest: {url: 'http://a:b@exporter/'}",
        'digest.url: "http://a:b@exporter/" is not an http or https URL without user and password'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), BAD, ids=lambda value: str(value)[:60])
def test_bad_configuration_gets_one_line_that_names_the_key(text: str | bytes, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(text, path="config.yaml", environment={}, hostname="node-a")
    assert str(error.value) == f"config.yaml: {problem}"


def test_aliases_that_multiply_are_counted_as_what_they_stand_for() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    with pytest.raises(ConfigError, match=r"^config\.yaml: line 5: more than 50000 values$"):
        load_config("\n".join(lines), path="config.yaml", environment={}, hostname="node-a")


def test_node_name_of_the_environment_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"^\$NODE_NAME: a/b is not a node name$"):
        load_config("", path="", environment={"NODE_NAME": "a/b"}, hostname="node-a")


def test_ca_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    config = tmp_path / "config.yaml"
    config.write_text(TARGET.format(", ca_file: ca.pem"))
    with pytest.raises(ConfigError) as error:
        load_config(path=str(config), environment={}, hostname="node-a")
    assert str(error.value) == f"{config}: targets[0].ca_file: {tmp_path}/ca.pem holds no certificate in PEM"


def test_configuration_file_that_is_missing_or_no_file_is_one_line(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.yaml", "cannot be read: No such file or directory"),
        (tmp_path, "is not a regular file"),
    ):
        with pytest.raises(ConfigError) as error:
            load_config(path=str(path), environment={}, hostname="node-a")
        assert str(error.value) == f"{path} {reason}"
