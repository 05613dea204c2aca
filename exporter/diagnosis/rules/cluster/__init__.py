"""Rules of scope cluster: what the API's objects show. Pure."""
