"""The services; they know nothing of each other."""
