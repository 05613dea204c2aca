"""The exporter's side of the broker. No privilege."""
