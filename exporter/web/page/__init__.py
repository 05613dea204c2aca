"""The status page: a finished report as HTML. No I/O."""
