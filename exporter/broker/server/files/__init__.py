"""How the broker reads the few files of pods that it may read."""
