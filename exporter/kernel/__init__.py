"""Kernel state as facts: read/ asks the broker, decode/ parses the bytes into the values of model/facts.py.

Nothing here opens a socket or a file, or runs a program.
"""
