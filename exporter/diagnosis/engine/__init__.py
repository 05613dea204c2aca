"""What every rule shares: a rule's input, the verdict of a round, and what explains what. Pure."""
