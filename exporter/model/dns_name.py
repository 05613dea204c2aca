"""DNS names as text: how two of them compare, and what fits into a query. The only place that compares names; pure."""

from __future__ import annotations

import re

MAX_NAME, MAX_LABEL = 253, 63  # octets of a name as text and of one label, RFC 1035 section 2.3.4
ESCAPED = re.compile(r"\\([0-9]{3})")  # an octet that is not printable, RFC 1035 section 5.1


def casefold(name: str) -> str:
    """The form in which names compare: lower case, without one final dot."""
    return name.lower().removesuffix(".")


def is_within(name: str, domain: str) -> bool:
    """Whether a name is the (casefolded) domain or below it; no name is within an empty domain."""
    return bool(domain) and f".{casefold(name)}".endswith(f".{domain}")


def zone(name: str) -> str:
    """A name's last two labels: its zone, as far as the name alone shows."""
    return ".".join(casefold(name).split(".")[-2:])


def is_encodable(name: str) -> bool:
    """Whether a name fits into a query; the final dot does not count."""
    bare = ESCAPED.sub("?", name.removesuffix("."))
    return len(bare) <= MAX_NAME and all(0 < len(label) <= MAX_LABEL for label in bare.split("."))
