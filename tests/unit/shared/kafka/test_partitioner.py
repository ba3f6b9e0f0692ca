"""A key lies where Kafka's own producers put it."""

import pytest

from shared.kafka.partitioner import partition_of


# What the Java client's murmur2 gives for these, as its own tests have it.
@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_as_the_java_client_does(key: bytes, hashed: int) -> None:
    for partitions in (1, 2, 8, 50):
        assert partition_of(key, partitions) == (hashed & 0x7FFFFFFF) % partitions
