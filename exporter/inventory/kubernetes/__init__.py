"""The Kubernetes API: credentials, requests, lists and watches. Gives parsed objects, and says how current they are."""
