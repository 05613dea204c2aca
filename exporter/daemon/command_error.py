"""What the user asked for cannot be done. Raised by any command, said in one line by cli/command.py, which ends with exit status 2."""

from __future__ import annotations


class CommandError(Exception):
    """One line for the user."""
