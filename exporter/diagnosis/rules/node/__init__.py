"""Rules of scope node: what the node's own kernel shows. Pure."""
