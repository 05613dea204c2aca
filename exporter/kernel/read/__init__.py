"""Which topics a round asks the broker for, and the facts made of the answers. It waits for the broker only."""
