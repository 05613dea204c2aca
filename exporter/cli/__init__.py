"""The command line, and the commands that run once, print and end: check, probe, resolve. They bind no port."""
