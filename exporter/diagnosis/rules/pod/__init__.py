"""Rules of scope pod: what a pod's own network namespace shows. Pure."""
