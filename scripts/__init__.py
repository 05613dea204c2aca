"""Commands for whoever works on this project: the shell scripts, and the Python that some of them run."""
