"""The part of the cluster's state that nodes need: its format, who serves it and who fetches it."""
