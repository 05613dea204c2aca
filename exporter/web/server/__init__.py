"""The HTTP surface: listening, TLS, who is let in, routes."""
