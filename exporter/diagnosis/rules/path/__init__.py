"""Rules of scope path: what the last dials of one destination show. Pure."""
