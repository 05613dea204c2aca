"""The privileged process: standard library and protocol only. SECURITY.md cites how many lines of code it has."""
