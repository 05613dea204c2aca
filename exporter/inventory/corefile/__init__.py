"""A Corefile to what it does to AAAA and which domains are the cluster's. Pure."""
