"""The scheduler's own policy against models of mailbox providers, on a virtual clock."""
