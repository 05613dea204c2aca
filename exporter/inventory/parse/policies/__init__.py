"""Network policies of every kind, and the pods that they select. Pure."""
