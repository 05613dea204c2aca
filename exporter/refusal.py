"""What the user asked for cannot be done. Raised by any command, said in one line by command.py, which ends with exit status 2."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - bad input or a missing part of the world, not a fault of ours
    """One line for the user."""
