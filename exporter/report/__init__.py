"""A report in words, as JSON and as reference tables. Last stage of the flow: reads finished values and decides nothing."""
