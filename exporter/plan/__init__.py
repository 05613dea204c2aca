"""What a round asks: pure decisions from inventory, configuration, clock and kept results. No I/O, no randomness of its own."""
