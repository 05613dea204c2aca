"""Bytes of the kernel to facts. Pure; any bytes may come, and the work is bounded."""
