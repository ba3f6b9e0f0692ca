"""Say what keeps the local cluster from running, and what to do about it."""


class LocalKafkaError(Exception):
    """One problem, as a sentence that ends with what to do."""
