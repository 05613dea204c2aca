"""The HTTP server: listening, TLS, admission, routes, exposition."""
