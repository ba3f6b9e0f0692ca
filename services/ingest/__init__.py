"""Takes submissions, makes one delivery of each recipient."""
