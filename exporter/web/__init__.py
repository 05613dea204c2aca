"""What the exporter serves over HTTP. Last stage of the flow: reads finished values and decides nothing."""
