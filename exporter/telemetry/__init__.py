"""What the exporter says of itself while it runs: its log, and the counts of its own bugs. Imports nothing of ours."""
