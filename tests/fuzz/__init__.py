"""Fuzzing of everything that reads bytes of others: `make fuzz`, and a short form in CI (tests/wire/test_fuzz.py)."""
