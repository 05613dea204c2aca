"""The closed set of requests and replies between the exporter and the broker, and their encoding. No I/O."""
