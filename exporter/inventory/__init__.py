"""From what a source says of the cluster to one Inventory: parsers shared by all sources, and the sources themselves."""
