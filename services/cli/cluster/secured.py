"""What makes the local broker one that trusts nobody: TLS, a login by SCRAM-SHA-512, and an authorizer that allows nothing by itself.

For the tests of what each service may do. Only the listener for clients is so; the controller's stays in the clear on 127.0.0.1, where the
node speaks to itself as ANONYMOUS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MECHANISM: Final = "SCRAM-SHA-512"
LISTENER: Final = "SASL_SSL"


@dataclass(frozen=True, slots=True)
class Secured:
    """Certificates as PEM files, and who may log in."""

    #: The private key (PKCS #8), then the certificates; they must be for 127.0.0.1.
    keystore: Path
    #: Whose certificates are believed.
    truststore: Path
    #: Name -> password.
    users: Mapping[str, str]
    #: The one of them who may everything.
    admin: str

    def rows(self) -> dict[str, str | int]:
        """Give the lines of server.properties that make it so."""
        here = f"listener.name.{LISTENER.lower()}"
        login = (
            "org.apache.kafka.common.security.scram.ScramLoginModule required "
            f'username="{self.admin}" password="{self.users[self.admin]}";'
        )
        return {
            "listener.security.protocol.map": f"{LISTENER}:{LISTENER},CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": LISTENER,
            "sasl.enabled.mechanisms": MECHANISM,
            "sasl.mechanism.inter.broker.protocol": MECHANISM,
            f"{here}.{MECHANISM.lower()}.sasl.jaas.config": login,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.keystore.absolute()),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.truststore.absolute()),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:{self.admin};User:ANONYMOUS",
        }

    def format_options(self) -> list[str]:
        """Give what the storage tool is told, so that the users are there before the broker is."""
        return [
            word
            for name, password in self.users.items()
            for word in ("--add-scram", f"{MECHANISM}=[name={name},password={password}]")
        ]
