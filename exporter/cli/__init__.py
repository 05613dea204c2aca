"""Commands that look once, print and end: check, probe, resolve. They bind no port."""
