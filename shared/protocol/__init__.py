"""The lease and epoch protocol as pure code that senders and schedulers both run."""
