"""The privileged part: one small synchronous process with a closed set of requests, and the client that talks to it."""
