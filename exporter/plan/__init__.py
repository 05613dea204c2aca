"""What a round dials and asks: pure decisions from inventory, configuration, clock and earlier results. No I/O."""
