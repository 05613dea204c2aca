"""The web configuration file: what it may say, what each mistake gets, and that TLS, passwords and rotation do what it
says.
"""

from __future__ import annotations

import logging
import os
import ssl
from pathlib import Path

import bcrypt
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from exporter.config.document import ConfigError
from exporter.web.server.admission import TokenBucket
from exporter.web.server.passwords import Passwords, parse_credentials
from exporter.web.server.rotation import WebSettings
from exporter.web.server.settings import CIPHERS, ClientAuth, RateLimit, TlsServer, WebConfig, load_web_config
from exporter.web.server.tls import build_context, has_allowed_name

HASH = "$2b$04$lfk7SUSfbC/AEySzHrO0v.SQOSH7J1jzyFWLdLD9zOH1Jz2VQoKVq"
PAIR = "cert_file: c.pem, key_file: k.pem"

BAD = [
    ("[]", "a list is not a mapping of keys to values"),
    ("tls_config: {}", "tls_config: unknown key, did you mean tls_server_config?"),
    ("tls_server_config: {cert_fle: a}", "tls_server_config.cert_fle: unknown key, did you mean cert_file?"),
    ("tls_server_config: {cert_file: a}", "tls_server_config.key_file: is missing"),
    ("tls_server_config: {key_file: a}", "tls_server_config.cert_file: is missing"),
    ("tls_server_config: {client_ca_file: a}", "tls_server_config.cert_file: is missing"),
    ("tls_server_config: {cert: abc, key_file: a}", "tls_server_config.cert: is not PEM"),
    ("tls_server_config: {key: hunter2}", "tls_server_config.key: is not PEM"),
    ("tls_server_config: {key: [hunter2]}", "tls_server_config.key: a list is not PEM"),
    ('tls_server_config: {cert: "-----BEGIN CERTIFICATE-----", cert_file: a, key_file: b}',
        "tls_server_config.cert: is set together with cert_file: set one of them"),
    (f"tls_server_config: {{{PAIR}, min_version: TLS11}}",
        "tls_server_config.min_version: TLS11 is forbidden by RFC 8996: TLS12 or TLS13"),
    (f"tls_server_config: {{{PAIR}, max_version: TLS10}}",
        "tls_server_config.max_version: TLS10 is forbidden by RFC 8996: TLS12 or TLS13"),
    (f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS12}}",
        "tls_server_config.max_version: TLS12 is older than min_version (TLS13)"),
    (f"tls_server_config: {{{PAIR}, min_version: '1.2'}}",
        "tls_server_config.min_version: 1.2 is not one of TLS10, TLS11, TLS12, TLS13"),
    (f"tls_server_config: {{{PAIR}, cipher_suites: [RC4]}}",
        "tls_server_config.cipher_suites[0]: RC4 is not a cipher suite"),
    (f"tls_server_config: {{{PAIR}, curve_preferences: [P256]}}",
        "tls_server_config.curve_preferences[0]: P256 is not one of CurveP256, CurveP384, CurveP521, X25519"),
    (f"tls_server_config: {{{PAIR}, prefer_server_cipher_suites: 1}}",
        "tls_server_config.prefer_server_cipher_suites: 1 is not true or false"),
    (f"tls_server_config: {{{PAIR}, client_auth_type: Always}}",
        ("tls_server_config.client_auth_type: Always is not one of NoClientCert, RequestClientCert, "
        "RequireAnyClientCert, RequireClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert")),
    (f"tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}",
        ("tls_server_config.client_auth_type: RequireAnyClientCert takes any certificate unverified, which is not "
        "supported: RequireAndVerifyClientCert")),
    (f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}",
        "tls_server_config.client_ca_file: is missing: RequireAndVerifyClientCert verifies against it"),
    (f"tls_server_config: {{{PAIR}, client_ca_file: a}}",
        "tls_server_config.client_auth_type: is missing: a client_ca is given"),
    ((f"tls_server_config: "
        f"{{{PAIR}, client_ca_file: a, client_auth_type: VerifyClientCertIfGiven, client_allowed_sans: [a]}}"),
        "tls_server_config.client_allowed_sans: needs client_auth_type RequireAndVerifyClientCert"),
    ("http_server_config: {http2: maybe}", "http_server_config.http2: maybe is not true or false"),
    ("http_server_config: {headers: {X-Frame-Option: deny}}",
        "http_server_config.headers.X-Frame-Option: unknown key, did you mean X-Frame-Options?"),
    ("http_server_config: {headers: {X-Frame-Options: allow}}",
        "http_server_config.headers.X-Frame-Options: allow is not deny or sameorigin"),
    ('http_server_config: {headers: {X-XSS-Protection: "0\\r\\nX: y"}}',
        'http_server_config.headers.X-XSS-Protection: "0\\r\\nX: y" is not a header\'s value'),
    ("http_server_config: {headers: [a]}", "http_server_config.headers: a list is not a mapping"),
    ("basic_auth_users: [alice]", "basic_auth_users: a list is not a mapping"),
    ("basic_auth_users: {alice: secret}", "basic_auth_users.alice: is not a bcrypt hash ($2a$, $2b$ or $2y$)"),
    ("basic_auth_users: {alice: }", "basic_auth_users.alice: is not a bcrypt hash ($2a$, $2b$ or $2y$)"),
    (f"basic_auth_users: {{alice: {HASH[:-1]}}}", "basic_auth_users.alice: is not a bcrypt hash ($2a$, $2b$ or $2y$)"),
    (f"basic_auth_users: {{alice: {HASH.replace('v.S', 'v_S')}}}",
        "basic_auth_users.alice: is not a bcrypt hash ($2a$, $2b$ or $2y$)"),
    (f"basic_auth_users: {{alice: {HASH.replace('$04$', '$15$')}}}",
        "basic_auth_users.alice: bcrypt cost 15 is out of range (4-14)"),
    (f"basic_auth_users: {{alice: {HASH.replace('$04$', '$03$')}}}",
        "basic_auth_users.alice: bcrypt cost 3 is out of range (4-14)"),
    (f"basic_auth_users: {{'a:b': {HASH}}}",
        'basic_auth_users."a:b": a user\'s name is printable and without a colon (RFC 7617)'),
    (f"basic_auth_users: {{alice: {HASH}, alice: {HASH}}}", "basic_auth_users.alice: appears twice, again in line 1"),
    ("rate_limit: {interval: 1}", "rate_limit.interval: 1 is not a duration (30s, 1m30s, 500ms)"),
    ("rate_limit: {interval: 1s}", "rate_limit.burst: 0 lets nothing pass"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), BAD, ids=lambda value: str(value)[:60])
def test_bad_web_configuration_gets_one_line_without_secrets(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_web_config(text, path="web.yaml")
    assert str(error.value) == f"web.yaml: {problem}"
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "basic_auth_users:\n",
        "tls_server_config:\nhttp_server_config:\nrate_limit:\n",
        "tls_server_config: {min_version: TLS13}",
    ],
)
def test_what_asks_for_nothing_serves_plain_http_to_anybody(text: str) -> None:
    config = load_web_config(text, path="web.yaml")
    assert not config.tls_server_config.enabled
    assert not config.basic_auth_users
    assert text.startswith("tls_server_config: {") or config == WebConfig()


def test_a_full_file_is_understood(tmp_path: Path) -> None:
    config = load_web_config(
        f"""
        tls_server_config:
          cert_file: tls.crt
          key_file: /keys/tls.key
          client_auth_type: RequireAndVerifyClientCert
          client_ca_file: ca.crt
          client_allowed_sans: [scraper.test, 2001:db8::1]
          min_version: TLS12
          max_version: TLS13
          cipher_suites: [{", ".join(CIPHERS)}]
          prefer_server_cipher_suites: false
          curve_preferences: [X25519, CurveP256]
        http_server_config:
          http2: true
          headers: {{Strict-Transport-Security: max-age=31536000, X-Frame-Options: }}
        basic_auth_users: {{alice: {HASH}, 007: "{HASH.replace("$2b$", "$2y$")}"}}
        rate_limit: {{interval: 500ms, burst: 10}}
        """,
        path=f"{tmp_path}/web.yaml",
    )
    tls = config.tls_server_config
    assert (tls.cert_file, tls.key_file, tls.client_ca_file) == (
        f"{tmp_path}/tls.crt",
        "/keys/tls.key",
        f"{tmp_path}/ca.crt",
    )
    assert tls.client_auth_type is ClientAuth.REQUIRE_AND_VERIFY
    assert tls.client_allowed_sans == ("scraper.test", "2001:db8::1")
    assert dict(config.http_server_config.headers) == {
        "Strict-Transport-Security": "max-age=31536000",
        "X-Frame-Options": "",
    }
    assert set(dict(config.basic_auth_users)) == {"alice", "007"}
    assert config.rate_limit == RateLimit(interval=0.5, burst=10)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("exporter.test")


def chain(leaf: trustme.LeafCert) -> str:
    return "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems)


def inline(leaf: trustme.LeafCert, **more: object) -> TlsServer:
    return TlsServer(cert=chain(leaf), key=leaf.private_key_pem.bytes().decode(), **more)  # type: ignore[arg-type]


def test_inline_certificate_makes_a_context(server: trustme.LeafCert) -> None:
    context = build_context(inline(server))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_cipher_suites_are_openssl_s_by_go_s_names(server: trustme.LeafCert) -> None:
    context = build_context(inline(server, cipher_suites=("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",)))
    old = [c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"]
    assert old == ["ECDHE-RSA-AES256-GCM-SHA384"]


def test_every_cipher_suite_that_may_be_named_exists(server: trustme.LeafCert) -> None:
    offered = {c["name"] for c in build_context(inline(server, cipher_suites=tuple(CIPHERS))).get_ciphers()}
    assert {name for name in CIPHERS.values() if name} <= offered


def test_suites_of_tls_1_3_alone_leave_tls_1_3_alone(server: trustme.LeafCert) -> None:
    context = build_context(inline(server, cipher_suites=("TLS_AES_128_GCM_SHA256",)))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_client_certificates_are_asked_for_where_they_count(authority: trustme.CA, server: trustme.LeafCert) -> None:
    ca = authority.cert_pem.bytes().decode()
    for asked, mode in (
        (ClientAuth.NONE, ssl.CERT_NONE),
        (ClientAuth.REQUEST, ssl.CERT_NONE),
        (ClientAuth.VERIFY_IF_GIVEN, ssl.CERT_OPTIONAL),
        (ClientAuth.REQUIRE_AND_VERIFY, ssl.CERT_OPTIONAL),
    ):
        assert build_context(inline(server, client_auth_type=asked, client_ca=ca)).verify_mode is mode


def write_pair(directory: Path, leaf: trustme.LeafCert) -> None:
    (directory / "c.pem").write_text(chain(leaf))
    (directory / "k.pem").write_bytes(leaf.private_key_pem.bytes())


def problem_of(directory: Path, text: str) -> str:
    path = directory / "web.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        WebSettings(str(path))
    return str(error.value).removeprefix(f"{path}: ").replace(str(directory), "DIR")


def test_files_that_cannot_be_used_are_named(tmp_path: Path, authority: trustme.CA, server: trustme.LeafCert) -> None:
    text = f"tls_server_config: {{{PAIR}}}"
    assert (
        problem_of(tmp_path, text) == "tls_server_config.cert_file: DIR/c.pem cannot be read: No such file or directory"
    )
    write_pair(tmp_path, server)
    (tmp_path / "k.pem").write_text("nothing")
    assert problem_of(tmp_path, text) == "tls_server_config.key_file: contains no private key in PEM"
    (tmp_path / "k.pem").write_bytes(authority.issue_cert("other.test").private_key_pem.bytes())
    assert problem_of(tmp_path, text) == "tls_server_config.key_file: the private key is not that of the certificate"
    write_pair(tmp_path, server)
    (tmp_path / "c.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert problem_of(tmp_path, text).startswith(
        "tls_server_config.cert_file: certificate or private key cannot be used: "
    )
    with_ca = f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}}"
    write_pair(tmp_path, server)
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert (
        problem_of(tmp_path, with_ca)
        == "tls_server_config.client_ca_file: contains no certificate that OpenSSL can parse"
    )
    os.mkfifo(tmp_path / "fifo")
    assert (
        problem_of(tmp_path, text.replace("k.pem", "fifo"))
        == "tls_server_config.key_file: DIR/fifo is not a regular file"
    )


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(
    tmp_path: Path, server: trustme.LeafCert
) -> None:
    write_pair(tmp_path, server)
    key = load_pem_private_key(server.private_key_pem.bytes(), None)
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    assert (
        problem_of(tmp_path, f"tls_server_config: {{{PAIR}}}")
        == "tls_server_config.key_file: the private key is encrypted"
    )


@pytest.mark.parametrize(
    ("certificate", "allowed", "verdict"),
    [
        (None, None, False),
        ({}, None, False),
        ({"subject": ()}, None, True),
        ({"subjectAltName": (("DNS", "a.test"),)}, ("a.test",), True),
        ({"subjectAltName": (("DNS", "a.test"),)}, ("b.test",), False),
        ({"subjectAltName": (("DNS", "a.test"),)}, (), False),
        ({"subject": ((("commonName", "a.test"),),)}, ("a.test",), False),
        ({"subjectAltName": (("IP Address", "2001:DB8:0:0:0:0:0:1"),)}, ("2001:db8::1",), True),
        ({"subjectAltName": (("URI", "spiffe://a/b"), ("email", "x@a.test"))}, ("x@a.test",), True),
    ],
)
def test_a_client_has_an_allowed_name_or_is_refused(
    certificate: dict[str, object] | None, allowed: tuple[str, ...] | None, verdict: bool
) -> None:
    assert has_allowed_name(certificate, allowed) is verdict


# Passwords


def hashed(password: bytes) -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


def test_right_passwords_pass_and_others_do_not() -> None:
    passwords = Passwords({"alice": hashed(b"secret"), "bob": hashed(b"secret").replace("$2b$", "$2y$")})
    assert passwords.check_password("alice", "secret")
    assert passwords.check_password("bob", "secret")
    assert not passwords.check_password("alice", "Secret")
    assert not passwords.check_password("alice", "")
    assert not passwords.check_password("carol", "secret")
    assert not passwords.check_password("alice", "secret\0")


def test_passwords_longer_than_bcrypt_reads_are_cut_as_htpasswd_cuts_them() -> None:
    long = "é" * 50
    passwords = Passwords({"alice": hashed(long.encode()[:72])})
    assert passwords.check_password("alice", long)
    assert not passwords.check_password("alice", "e" * 100)


def test_verdicts_are_remembered_without_computing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords({"alice": hashed(b"secret")})
    assert passwords.recall("alice", "secret") is None
    assert passwords.check_password("alice", "secret")
    assert not passwords.check_password("alice", "wrong")
    monkeypatch.setattr(bcrypt, "checkpw", None)
    assert passwords.check_password("alice", "secret")
    assert not passwords.check_password("alice", "wrong")
    assert passwords.recall("alice:s", "ecret") is None


def test_guesses_cannot_push_out_the_right_password() -> None:
    passwords = Passwords({"alice": hashed(b"secret")})
    passwords.check_password("alice", "secret")
    for guess in range(300):
        passwords.check_password("alice", str(guess))
    assert passwords.recall("alice", "secret") is True
    assert passwords.recall("alice", "0") is None
    assert passwords.recall("alice", "299") is False


def test_an_unknown_user_costs_what_a_known_one_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    costs: list[bytes] = []
    passwords = Passwords({"alice": hashed(b"secret"), "bob": HASH.replace("$04$", "$06$")})
    real = bcrypt.checkpw

    def spy(password: bytes, hashed_password: bytes) -> bool:
        costs.append(hashed_password[:7])
        return real(password, hashed_password)

    monkeypatch.setattr(bcrypt, "checkpw", spy)
    assert not passwords.check_password("mallory", "x")
    assert not passwords.check_password("bob", "x")
    assert costs == [b"$2b$06$", b"$2b$06$"]


def test_no_password_is_kept_in_what_is_remembered() -> None:
    passwords = Passwords({"alice": hashed(b"hunter2")})
    assert passwords.check_password("alice", "hunter2")
    assert "hunter2" not in repr(vars(passwords))


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        ("Basic YWxpY2U6c2VjcmV0", ("alice", "secret")),
        ("basic  YWxpY2U6c2VjcmV0 ", ("alice", "secret")),
        ("Basic YWxpY2U6YTpi", ("alice", "a:b")),
        ("Basic Og==", ("", "")),
        ("", None),
        ("Basic", None),
        ("Bearer YWxpY2U6c2VjcmV0", None),
        ("Basic YWxpY2U=", None),
        ("Basic !!!", None),
        ("Basic /w==", None),
        ("Basic é", None),
        ("Basic " + "YWxpY2U6" * 1000, None),
    ],
)
def test_credentials_are_read_from_the_header_or_are_none(header: str, credentials: tuple[str, str] | None) -> None:
    assert parse_credentials(header) == credentials


# Rate limit and rotation


def test_token_bucket_lets_a_burst_pass_and_then_one_per_interval() -> None:
    now = [0.0]
    bucket = TokenBucket(RateLimit(interval=2.0, burst=2), clock=lambda: now[0])
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] = 2.0
    assert [bucket.take() for _ in range(2)] == [True, False]
    now[0] = 100.0
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    assert all(TokenBucket(RateLimit()).take() for _ in range(100))


def test_changed_files_are_read_again_and_bad_ones_leave_what_was(
    tmp_path: Path, authority: trustme.CA, server: trustme.LeafCert, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    path = tmp_path / "web.yaml"
    write_pair(tmp_path, server)
    path.write_text(f"tls_server_config: {{{PAIR}}}\nbasic_auth_users: {{alice: '{hashed(b'one')}'}}")
    settings = WebSettings(str(path), clock=lambda: now[0])
    first = settings.current()
    assert first.context is not None
    assert first.passwords is not None

    write_pair(tmp_path, authority.issue_cert("new.test"))
    assert settings.current() is first  # looked at once a second only
    now[0] += 1
    second = settings.current()
    assert second.context is not first.context
    assert second.passwords is first.passwords

    caplog.set_level(logging.ERROR)
    path.write_text("basic_auth_users: {alice: plain}")
    for _ in range(3):
        now[0] += 1
        assert settings.current() is second
    assert len(caplog.records) == 1
    (tmp_path / "c.pem").unlink()
    path.write_text(f"tls_server_config: {{{PAIR}}}\n# and its certificate is gone")
    for _ in range(3):
        now[0] += 1
        assert settings.current() is second
    assert len(caplog.records) == 2

    path.unlink()
    now[0] += 1
    assert settings.current() is second
    path.write_text("")
    now[0] += 1
    third = settings.current()
    assert (third.context, third.passwords) == (None, None)


def test_without_a_file_everything_is_served_in_the_clear() -> None:
    current = WebSettings().current()
    assert (current.config, current.context, current.passwords) == (WebConfig(), None, None)
