"""The four Grafana dashboards: what each asks, in Python, and the JSON files that people import. No part of the exporter."""
