"""What the kernel says, read: requests to the broker, and pure parsers of the bytes it returns, into the values of model/facts.py.

Parsers take bytes and return facts, or raise Malformed; nothing else. No file here opens a socket or a file, and none
runs a program.
"""
