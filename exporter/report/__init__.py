"""A report as text, as JSON and as reference tables. Reads finished values and decides nothing."""
