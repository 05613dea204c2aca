"""The four Grafana dashboards: their panels in Python and the JSON files to import. Not part of the exporter."""
