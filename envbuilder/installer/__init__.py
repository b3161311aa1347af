"""Installers fill prefixes from a lock; this package holds the one for wheels."""
