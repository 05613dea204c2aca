"""Rules of scope dns: whether nameservers answer, and whether their answers can be right. Pure."""
