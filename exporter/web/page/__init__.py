"""The status page: finished values to HTML. No I/O."""
