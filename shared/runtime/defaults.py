"""What Postyard ships: classes, providers and their limits. A configuration may change any field of them.

Sources: the providers' MX suffixes and the figures for connections and messages per connection are those that large senders publish
as practice (Gmail: support.google.com/mail/answer/81126 for TLS; Yahoo: help.yahoo.com SLN3433, it closes after about 20 messages;
Apple: support.apple.com/102322; Comcast: postmaster.comcast.net, 25 connections; Orange: 2 connections).
"""

from collections.abc import Mapping
from typing import Final

from shared.runtime.settings import ClassPolicy, LimitRow, Provider, UnknownPolicy

_MIN: Final = 60 * 1_000_000_000
_H: Final = 60 * _MIN

CLASSES: Final[Mapping[str, ClassPolicy]] = {
    "transactional": ClassPolicy(
        name="transactional",
        retry=(5 * _MIN, 10 * _MIN, 20 * _MIN, 30 * _MIN, 1 * _H, 2 * _H),
        expires_ns=24 * _H,
        unknown=UnknownPolicy(policy="retry", retry=2, delay_ns=5 * _MIN),
    ),
    "bulk": ClassPolicy(
        name="bulk",
        retry=(15 * _MIN, 30 * _MIN, 1 * _H, 2 * _H, 4 * _H),
        expires_ns=72 * _H,
        unknown=UnknownPolicy(policy="retry", retry=1, delay_ns=30 * _MIN),
    ),
}


def _provider(
    name: str, *mx: str, domains: tuple[str, ...] = (), encrypted: bool = True
) -> Provider:
    return Provider(name, mx, domains, "encrypted" if encrypted else "opportunistic")


PROVIDERS: Final[Mapping[str, Provider]] = {
    provider.name: provider
    for provider in (
        _provider("gmail", ".google.com", ".googlemail.com", ".smtp.goog"),
        _provider("yahoo", ".yahoodns.net"),
        _provider("microsoft", ".olc.protection.outlook.com"),
        _provider("microsoft365", ".mail.protection.outlook.com", ".mx.microsoft"),
        _provider("apple", ".icloud.com"),
        _provider("comcast", domains=("comcast.net",)),
        _provider("gmx", ".gmx.net", ".web.de"),
        _provider("orange", ".orange.fr", encrypted=False),
        _provider(
            "mimecast",
            ".mimecast.com",
            ".mimecast.co.za",
            ".mimecast-offshore.com",
            encrypted=False,
        ),
        _provider("qq", ".qq.com"),
    )
}

#: "default" is the careful start for a destination that nobody knows; every field is set, so that a limit always resolves.
LIMITS: Final[Mapping[str, LimitRow]] = {
    "default": LimitRow(connections=10, messages_per_connection=100),
    "gmail": LimitRow(connections=5, messages_per_connection=50),
    "yahoo": LimitRow(connections=5, messages_per_connection=20),
    "microsoft": LimitRow(connections=5, messages_per_connection=50),
    "microsoft365": LimitRow(connections=5, messages_per_connection=50),
    "apple": LimitRow(connections=10, messages_per_connection=5),
    "comcast": LimitRow(connections=25, messages_per_connection=1000),
    "gmx": LimitRow(connections=4, messages_per_connection=20),
    "orange": LimitRow(connections=2, messages_per_connection=100),
    "mimecast": LimitRow(connections=10, messages_per_connection=100),
    "qq": LimitRow(connections=4, messages_per_connection=8),
}
