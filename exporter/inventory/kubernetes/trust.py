"""Whom this program trusts inside the cluster: whom Kubernetes' own clients trust. The one place where such a TLS context is made.

Since Python 3.13 `ssl.create_default_context` demands what RFC 5280 asks of certificates (VERIFY_X509_STRICT): keyUsage
in an authority, an authority key identifier below it. Go's verification, which is that of kubectl, kubelet and every
controller, asks for neither, and distributions make authorities without them (MicroK8s). Chain, name and validity are
verified as ever.

Targets outside the cluster are none of this: probes/tls.py makes contexts of its own.
"""

from __future__ import annotations

import ssl


def cluster_context() -> ssl.SSLContext:
    """A client's context with the authorities of this system."""
    return as_kubernetes_does(ssl.create_default_context())


def as_kubernetes_does(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same context, made to trust what Go trusts whatever Python's version: no strictness, and any certificate given as an authority."""
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
