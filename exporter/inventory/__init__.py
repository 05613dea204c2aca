"""From what a source reads of the cluster to one Inventory: parsers shared by all sources, and the sources."""
