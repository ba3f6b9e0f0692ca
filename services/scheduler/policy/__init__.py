"""Policy: pure, no I/O, no clock."""
