"""Decides when, and from which source, each delivery is attempted."""
