"""Names, addresses and TLS policy: used by ingest (roll-up), scheduler and sender (delivery)."""
