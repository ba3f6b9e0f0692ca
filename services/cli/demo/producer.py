"""A platform: produces the demonstration's mail to mail.submissions.*, with nothing of Postyard but the documented record format.

python -m services.cli.demo.producer --bootstrap 127.0.0.1:9092 --count 2000
"""

import argparse
import asyncio
import sys

from aiokafka import AIOKafkaProducer

from services.cli.demo.mail import mails


async def produce(bootstrap: str, count: int) -> None:
    """Produce ``count`` messages and wait until Kafka has acknowledged every one."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=20
    )
    await producer.start()
    try:
        sent = [
            await producer.send(
                f"mail.submissions.{mail.class_}",
                mail.value(),
                key=f"{mail.tenant}/{mail.id}".encode(),
            )
            for mail in mails(count)
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def main(argv: list[str] | None = None) -> int:
    """Produce and say how many."""
    parser = argparse.ArgumentParser(
        prog="python -m services.cli.demo.producer", description=__doc__
    )
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--count", type=int, default=2000)
    arguments = parser.parse_args(argv)
    asyncio.run(produce(arguments.bootstrap, arguments.count))
    sys.stdout.write(f"{arguments.count} submissions produced\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
