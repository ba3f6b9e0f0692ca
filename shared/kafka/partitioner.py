"""Which partition a key belongs to: the one that Kafka's own clients choose for it, so that a producer can put it there by itself."""

from aiokafka.partitioner import murmur2

_POSITIVE = 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """Give the partition of ``key``, as the default partitioner of the Java client does."""
    return (int(murmur2(key)) & _POSITIVE) % partitions
