"""Owns sources, signs, delivers over SMTP."""
