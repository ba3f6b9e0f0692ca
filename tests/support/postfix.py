"""A real Postfix that receives into a Maildir: its own configuration, queue and ports in one folder, ended by its own process."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

import trustme

from tests.support.stack import free_port

_MAIN_CF: Final = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
myhostname = mx.{domain}
mydestination =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.1/32
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_reject_unlisted_recipient = yes
smtpd_tls_security_level = may
smtpd_tls_cert_file = {directory}/tls.pem
smtpd_tls_key_file = {directory}/tls.pem
smtpd_tls_received_header = yes
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {directory}/mail
virtual_mailbox_maps = inline:{{ {mailboxes} }}
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
notify_classes =
"""
_MASTER_CF: Final = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Receive for ``users`` at ``domain``."""

    def __init__(self, directory: Path, domain: str, users: list[str]) -> None:
        self._directory, self.port = directory, free_port()
        for part in ("etc", "queue", "data", "mail"):
            (directory / part).mkdir(parents=True)
        # Postfix's processes run as its own user, and must be able to come here.
        for each in (directory, *directory.parents):
            if each.stat().st_uid == os.getuid() and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)
        shutil.chown(directory / "data", "postfix")
        shutil.chown(directory / "mail", "postfix", "postfix")
        trustme.CA().issue_cert(f"mx.{domain}").private_key_and_cert_chain_pem.write_to_path(
            directory / "tls.pem"
        )
        owner = (directory / "mail").stat()
        values = {
            "directory": directory,
            "domain": domain,
            "port": self.port,
            "mailboxes": ", ".join(f"{user}@{domain}={user}/" for user in users),
            "uid": owner.st_uid,
            "gid": owner.st_gid,
        }
        (directory / "etc/main.cf").write_text(_MAIN_CF.format(**values))
        (directory / "etc/master.cf").write_text(_MASTER_CF.format(**values))

    def __enter__(self) -> Self:
        self._command("start")
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._command("stop")

    def mailbox(self, user: str) -> list[bytes]:
        """Give what lies in a user's Maildir."""
        return [
            path.read_bytes()
            for path in sorted((self._directory / "mail" / user / "new").glob("*"))
        ]

    def _command(self, word: str) -> None:
        done = subprocess.run(
            ["postfix", "-c", str(self._directory / "etc"), word],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            log = self._directory / "mail.log"
            raise AssertionError(
                f"postfix {word}: {done.stderr}{log.read_text() if log.exists() else ''}"
            )
