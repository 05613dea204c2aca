"""Basic authentication: whether a user's password is right, at the same cost whether or not the user exists.

admission.py calls it. bcrypt is slow on purpose, so verdicts are remembered, keyed by a MAC under a key of this
process: a dump of its memory does not reveal a password. Right and wrong verdicts are kept apart, so that guesses
cannot push the scraper's own verdict out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

import bcrypt

_MOST_REMEMBERED = 256
_LONGEST = 1024  # bytes of user and password together; a header line is shorter than 8 KiB anyway


class Passwords:
    """The users of one configuration. Safe to call from several threads."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._hashes = {user: text.encode() for user, text in users.items()}
        cost = max((int(text[4:6]) for text in users.values()), default=10)
        self._decoy = bcrypt.gensalt(cost) + b"." * 31  # shaped like a hash, as slow to compare as the slowest
        self._secret = secrets.token_bytes(32)
        self._lock = Lock()
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()

    def recall(self, user: str, password: str) -> bool | None:
        """The remembered verdict; None where it has to be computed."""
        key = self._key(user, password)
        with self._lock:
            for remembered, verdict in ((self._right, True), (self._wrong, False)):
                if key in remembered:
                    remembered.move_to_end(key)
                    return verdict
        return None

    def check_password(self, user: str, password: str) -> bool:
        """Whether that user has that password. May take a second (bcrypt): do not call it on the event loop."""
        verdict = self.recall(user, password)
        if verdict is not None:
            return verdict
        # bcrypt reads 72 bytes; htpasswd and Go cut there silently, so hashes of longer passwords exist.
        matches = bcrypt.checkpw(password.encode(errors="replace")[:72], self._hashes.get(user, self._decoy))
        verdict = matches and user in self._hashes
        with self._lock:
            remembered = self._right if verdict else self._wrong
            remembered[self._key(user, password)] = None
            while len(remembered) > _MOST_REMEMBERED:
                remembered.popitem(last=False)
        return verdict

    def _key(self, user: str, password: str) -> bytes:
        message = f"{len(user)}:{user}:{password}".encode(errors="replace")
        return hmac.digest(self._secret, message, "sha256")


def parse_credentials(header: str) -> tuple[str, str] | None:
    """User and password of an Authorization header of scheme Basic (RFC 7617); None for anything else."""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "basic" or len(token) > _LONGEST * 4 // 3 + 4:
        return None
    try:
        text = base64.b64decode(token.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None
