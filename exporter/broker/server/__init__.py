"""The privileged process. SECURITY.md counts these lines; nothing here imports anything but the standard library and the protocol."""
