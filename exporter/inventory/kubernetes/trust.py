"""TLS trust of HTTP clients inside the cluster: what Kubernetes' own clients trust. Loads no file itself.

Since Python 3.13 `ssl.create_default_context` requires what RFC 5280 requires of certificates (VERIFY_X509_STRICT):
keyUsage in an authority, an authority key identifier below it. Go's verification, which is that of kubectl, kubelet and
every controller, requires neither, and distributions make authorities without them (MicroK8s). Chain, name and validity
are verified as always. Probes of targets outside the cluster make contexts of their own (probes/tls.py).
"""

from __future__ import annotations

import ssl


def cluster_context() -> ssl.SSLContext:
    """A client's context with the authorities of this system."""
    return trust_as_go(ssl.create_default_context())


def trust_as_go(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context: no strictness, and any certificate given as an authority, whatever Python's version."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
