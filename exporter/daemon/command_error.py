"""The error of any command that cannot do what was asked; cli/command.py prints it and ends with exit status 2."""

from __future__ import annotations


class CommandError(Exception):
    """One line for the user."""
