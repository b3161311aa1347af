"""What is in an environment, whether it may be shipped, and what changed: read from the lock, before anything runs."""
