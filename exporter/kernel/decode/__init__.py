"""Parsers of the bytes that the broker hands on. Pure: bytes in, facts out, or ParseError; no socket, file or clock."""


class ParseError(ValueError):
    """Bytes that no kernel of this layout sends: cut short, of impossible length, or with a value outside its range."""
