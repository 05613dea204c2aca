"""What the Kubernetes API and the node's files show of a cluster, as values. Pure."""
