"""What the services share and nothing else; knows no service."""
