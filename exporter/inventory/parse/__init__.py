"""Objects of the API, and files of the node, to values. Pure."""
