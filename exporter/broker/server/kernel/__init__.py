"""How the broker fetches kernel state, as bytes: netlink, getsockopt and /proc, in the namespace that it visits."""
