"""What Postyard ships: classes, providers and their limits. A configuration may change any field of them.

Sources of TLS, MX suffixes, connections and messages per connection: K = KumoMTA's shipped shaping (assets/policy-extras/shaping.toml),
C = its community's; where a provider publishes a figure itself, its page is named beside the row. A limit holds for each source.
"""

from collections.abc import Mapping
from typing import Final

from shared.runtime.settings import ClassPolicy, LimitRow, Provider, Rate, UnknownPolicy

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
        # support.google.com/mail/answer/81126: TLS is required; limits go by MX, so Workspace is the same provider.
        _provider("gmail", ".google.com", ".googlemail.com", ".smtp.goog"),
        _provider("yahoo", ".yahoodns.net"),
        _provider("yahoo-japan", domains=("yahoo.co.jp",), encrypted=False),
        # outlook.com, hotmail.com, live.com, msn.com
        _provider("microsoft", ".olc.protection.outlook.com"),
        # The second suffix is for domains with DANE.
        _provider("microsoft365", ".mail.protection.outlook.com", ".mx.microsoft"),
        # icloud.com, me.com, mac.com
        _provider("apple", ".icloud.com"),
        _provider("comcast", domains=("comcast.net",)),
        _provider("gmx", ".gmx.net", ".web.de"),
        _provider("orange", ".orange.fr", encrypted=False),
        _provider("laposte", ".laposte.net", encrypted=False),
        _provider(
            "mimecast",
            ".mimecast.com",
            ".mimecast.co.za",
            ".mimecast-offshore.com",
            encrypted=False,
        ),
        _provider("barracuda", ".barracudanetworks.com"),
        _provider("netvigator", ".netvigator.com"),
        _provider("kpn", ".kpnmail.nl"),
        _provider("qq", ".qq.com"),
        _provider("netease", ".netease.com"),
    )
}

#: "default" is the careful start for a destination that nobody knows; every field is set, so that a limit always resolves.
LIMITS: Final[Mapping[str, LimitRow]] = {
    "default": LimitRow(connections=10, messages_per_connection=100),  # K
    "gmail": LimitRow(connections=5, messages_per_connection=50),  # K
    # help.yahoo.com SLN3433: it closes after about 20 messages, and to connect again at once is fine.
    "yahoo": LimitRow(connections=5, messages_per_connection=20),
    "yahoo-japan": LimitRow(  # C
        connections=2, messages_per_connection=20, rate=Rate(10, 1_000_000_000)
    ),
    "microsoft": LimitRow(connections=5, messages_per_connection=50),  # K
    "microsoft365": LimitRow(connections=5, messages_per_connection=50),  # K
    # K, support.apple.com/102322
    "apple": LimitRow(connections=10, messages_per_connection=5),
    # postmaster.comcast.net: 25 connections for each address.
    "comcast": LimitRow(connections=25, messages_per_connection=1000),
    "gmx": LimitRow(connections=4, messages_per_connection=20),  # C
    # postmaster.orange.fr: 2 connections, 100 messages each. La Poste answers with the same family of codes.
    "orange": LimitRow(connections=2, messages_per_connection=100),
    "laposte": LimitRow(connections=2, messages_per_connection=100),
    "mimecast": LimitRow(connections=10, messages_per_connection=100),  # K
    "barracuda": LimitRow(connections=10, messages_per_connection=15),  # C
    "netvigator": LimitRow(connections=5, messages_per_connection=10),  # C
    "kpn": LimitRow(connections=10, messages_per_connection=10),  # C
    "qq": LimitRow(connections=4, messages_per_connection=8),  # C
    "netease": LimitRow(connections=4, messages_per_connection=7),  # C
}
