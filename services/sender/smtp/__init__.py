"""The SMTP client: session script (pure), transport, connections."""
