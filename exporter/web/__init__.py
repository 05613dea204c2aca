"""What the exporter serves over HTTP: the last stage of the flow. Reads finished values and decides nothing."""
