"""The room of one end-to-end test: receivers, and services on a configuration of the test's own; all of it ends with the room."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, Unpack

from tests.support.config import Wishes, config
from tests.support.nursery import Launch, launch
from tests.support.receiver import Receiver, start_receiver
from tests.support.stack import Stack


@dataclass(slots=True)
class Yard:
    """``with Yard(directory, kafka, prefix) as yard: …``; what was started last ends first."""

    directory: Path
    kafka: str
    prefix: str
    launch: Launch = launch
    _running: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def receiver(
        self,
        *options: str,
        name: str = "receiver",
        host: str = "127.0.0.1",
        port: int | None = None,
    ) -> Receiver:
        """Start a receiver, on any port where none is given, and wait until it listens."""
        receiver = start_receiver(
            self.directory, name, *options, host=host, port=port, launch=self.launch
        )
        self._running.callback(receiver.stop)
        return receiver

    def stack(
        self, routes: Receiver | Mapping[str, tuple[str, str]], **wishes: Unpack[Wishes]
    ) -> Stack:
        """Give a cluster that nothing of is started yet; ``routes``: as in ``config``, or who receives for *.test."""
        if isinstance(routes, Receiver):
            routes = {"*.test": (routes.target, "local")}
        text = config(self.directory, self.kafka, self.prefix, routes=routes, **wishes)
        stack = Stack(self.directory, self.kafka, self.prefix, text, launch=self.launch)
        self._running.callback(stack.stop)
        return stack
