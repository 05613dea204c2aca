"""Certificates as distributions make them with `openssl x509` alone: an authority without keyUsage, and no authority
key identifier below it.

Go verifies them. OpenSSL does so too, unless it is told to be strict (VERIFY_X509_STRICT), as Python's default context
is since 3.13.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class PlainAuthority:
    """An authority and one server's certificate for 127.0.0.1, in files of this directory."""

    def __init__(self, directory: Path) -> None:
        self.bundle = directory / "plain-ca.pem"
        self.chain = directory / "plain-server.pem"
        key, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        issuer = _named("plain authority")
        authority = (
            _begun(issuer, issuer, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        server = (
            _begun(_named("kube-apiserver"), issuer, own)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self.bundle.write_bytes(authority.public_bytes(pem))
        self.chain.write_bytes(own.private_bytes(pem, *plain) + server.public_bytes(pem))


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
