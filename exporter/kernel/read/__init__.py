"""Which topics a round asks the broker for, and the facts made of the answers. Waits for the broker, and for nothing else."""
