"""What a source means for connecting."""
