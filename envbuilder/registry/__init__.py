"""Container registries, by the distribution specification: reaching them, and bringing images there."""
