"""The closed set of requests and replies between the exporter and the broker, and their form on the socket. Does no I/O."""
