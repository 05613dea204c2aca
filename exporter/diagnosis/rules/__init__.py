"""The rules, in a folder for each scope: one pure function for each cause, listed in registry.py."""
