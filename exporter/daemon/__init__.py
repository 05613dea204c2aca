"""The long-running process: its parts put together, its rounds, its end. Everything below it is handed its inputs."""
