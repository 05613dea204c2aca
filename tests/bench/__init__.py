"""Measurements that take longer than a test may; run by hand."""
