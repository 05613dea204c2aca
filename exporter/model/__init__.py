"""Plain frozen values, by topic: what every other part speaks in. Nothing here does I/O or imports anything else of ours."""
