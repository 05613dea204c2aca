"""What the exporter reports of itself while it runs: its log, and the counts of its own bugs. A layer of its own."""
