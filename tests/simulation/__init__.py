"""Long runs of the pure part on a simulated clock: minutes of a cluster in seconds, too long for the unit suite."""
