"""The Kubernetes API: credentials, requests, lists and watches. Gives parsed objects and their age."""
