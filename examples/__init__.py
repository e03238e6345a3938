"""Programs that use the registry: run them from the root of the repository."""
