"""How the exporter itself resolves the names of targets before it dials them. Above the probes' runner."""
