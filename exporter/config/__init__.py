"""The configuration: one YAML file, read strictly into frozen values before anything else happens."""
