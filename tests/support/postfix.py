"""A Postfix of one's own, from Debian: its configuration, queue, log and port in one folder, ended by its own process.

Nothing of the system's Postfix is touched. It needs root, since Postfix does.
"""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

import trustme

from tests.support.processes import ended, program, tree
from tests.support.stack import free_port

_MAIN_CF: Final = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
mydestination =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
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
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
virtual unix - n n - - virtual
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
_RECEIVING: Final = """
myhostname = mx.{domain}
mynetworks = 127.0.0.1/32
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
"""


class Postfix:
    """``with Postfix(directory, settings) as postfix: … postfix.port``; ``settings`` are lines of main.cf."""

    def __init__(self, directory: Path, settings: str) -> None:
        self.directory, self.port = directory, free_port()
        for part in ("etc", "queue", "data"):
            (directory / part).mkdir(parents=True)
        # Postfix's processes run as its own user, and must be able to come here.
        for each in (directory, *directory.parents):
            if each.stat().st_uid == os.getuid() and each != Path("/"):
                each.chmod(each.stat().st_mode | 0o011)
        shutil.chown(directory / "data", "postfix")
        (directory / "etc/main.cf").write_text(_MAIN_CF.format(directory=directory) + settings)
        (directory / "etc/master.cf").write_text(_MASTER_CF.format(port=self.port))

    def __enter__(self) -> Self:
        self._command("start")
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        ours = tree([self.master])
        self._command("stop")
        ended(ours)

    @property
    def master(self) -> int:
        """The process that started all others."""
        return int((self.directory / "queue/pid/master.pid").read_text())

    def log(self) -> str:
        """Give what Postfix said so far."""
        path = self.directory / "mail.log"
        return path.read_text() if path.exists() else ""

    def _command(self, word: str) -> None:
        command = program("postfix")
        assert command is not None
        done = subprocess.run(
            [command, "-c", str(self.directory / "etc"), word],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env=dict(os.environ) | {"MAIL_LOGTAG": self.directory.name},
        )
        if done.returncode:
            raise AssertionError(f"postfix {word}: {done.stdout}{done.stderr}{self.log()}")


class ReceivingPostfix(Postfix):
    """Receive for ``users`` at ``domain`` into a Maildir each, with STARTTLS."""

    def __init__(self, directory: Path, domain: str, users: list[str]) -> None:
        mail = directory / "mail"
        mail.mkdir(parents=True)
        shutil.chown(mail, "postfix", "postfix")
        trustme.CA().issue_cert(f"mx.{domain}").private_key_and_cert_chain_pem.write_to_path(
            directory / "tls.pem"
        )
        settings = _RECEIVING.format(
            directory=directory,
            domain=domain,
            mailboxes=", ".join(f"{user}@{domain}={user}/" for user in users),
            uid=mail.stat().st_uid,
            gid=mail.stat().st_gid,
        )
        super().__init__(directory, settings)

    def mailbox(self, user: str) -> list[bytes]:
        """Give what lies in a user's Maildir."""
        return [
            path.read_bytes() for path in sorted((self.directory / "mail" / user / "new").glob("*"))
        ]
