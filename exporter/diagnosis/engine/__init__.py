"""What every rule shares: the table of causes, a rule's input, the verdict of a round, and what explains what. Pure."""
