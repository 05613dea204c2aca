"""dualstack-exporter: IPv4/IPv6 dual-stack health, seen from inside the pods' own network namespaces."""

__version__ = "0.1.1"
