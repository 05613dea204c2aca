"""The one error that parsers of kernel bytes raise."""

from __future__ import annotations


class ParseError(ValueError):  # it says what the bytes are
    """Bytes that no kernel of this layout would send: cut short, of impossible length, or with a value outside its range."""
