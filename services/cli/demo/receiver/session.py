"""One SMTP connection, as the receiving side: bytes in, replies out, decisions asked of the doorman.

What is pipelined is answered in one write. A reply that takes time holds up everything behind it, as with a slow host.
"""

import asyncio
import base64
import binascii
import hashlib
import re
import ssl
from dataclasses import dataclass
from typing import Final, Literal, cast

from services.cli.demo.receiver.manners import Doorman
from services.cli.demo.receiver.seen import Seen
from shared.runtime.clock import Clock

_PATH: Final = re.compile(rb"<([^>]*)>")
_MESSAGE_ID: Final = re.compile(rb"(?im)^message-id:\s*(\S+)")
_MAX_LINE: Final = 4096
_DOT: Final = b"\r\n.\r\n"


@dataclass(slots=True)
class Common:
    """What all connections share."""

    doorman: Doorman
    seen: Seen
    clock: Clock
    tls: ssl.SSLContext | None = None


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, common: Common) -> None:
        """Wait for the connection."""
        self._common = common
        self._doorman, self._manners, self._seen = (
            common.doorman,
            common.doorman.manners,
            common.seen,
        )
        self._transport: asyncio.Transport | None = None
        self._in, self._out = bytearray(), bytearray()
        self._looked = 0
        self._ehlo = self._sender = self._rcpt = self._tls = self._user = ""
        self._mail_ns = self._rcpt_ns = 0
        #: What the next bytes are: commands, a message, or an answer to AUTH.
        self._expects: Literal["command", "message", "auth"] = "command"
        self._login: list[str] = []
        self._peer = self._local = ""
        self._waiting: asyncio.Task[None] | None = None

    # -- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        # uvloop's transports are not of asyncio's class.
        self._transport = cast("asyncio.Transport", transport)
        self._peer = str(transport.get_extra_info("peername")[0])
        self._local = str(transport.get_extra_info("sockname")[1])
        if self._manners.mute:
            return
        if self._manners.banner:
            self._say(self._manners.banner)
            self._close()
            return
        self._reply(f"220 {self._manners.name} ESMTP", self._manners.before("CONNECT"))
        self._work()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the reply that nobody will read."""
        del error
        if self._waiting is not None:
            self._waiting.cancel()

    def data_received(self, data: bytes) -> None:
        """Take commands, or the message."""
        if not self._manners.mute:
            self._in += data
            self._work()

    def _work(self) -> None:
        while self._waiting is None and not self._closed() and self._step():
            pass
        self._flush()

    def _step(self) -> bool:
        """Take one command or message out of what has come; False: there is none yet."""
        if self._expects == "message":
            return self._take_message()
        end = self._in.find(b"\r\n")
        if end < 0:
            if len(self._in) > _MAX_LINE:
                self._close()
            return False
        line = bytes(self._in[:end])
        del self._in[: end + 2]
        if self._expects == "auth":
            self._authenticate(line)
        else:
            self._command(line)
        return True

    def _closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _close(self) -> None:
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(bytes(self._out))
        self._out.clear()

    def _reply(self, text: str, delay_s: float) -> None:
        if not delay_s:
            self._say(text)
            return
        self._flush()
        self._waiting = asyncio.ensure_future(self._reply_later(text, delay_s))

    async def _reply_later(self, text: str, delay_s: float) -> None:
        await self._common.clock.sleep(delay_s)
        self._waiting = None
        self._say(text)
        self._work()

    def _say(self, text: str) -> None:
        if self._manners.wordy and text[3:4] == " " and text[:1] in "245":
            text = f"{text[:3]}-{text[4:]}\r\n{text[:4]}(and that is all)"
        self._out += text.encode() + b"\r\n"

    # -- commands

    def _command(self, line: bytes) -> None:
        verb = line.split(b" ", 1)[0].upper().decode(errors="replace")
        delay_s = self._manners.before(verb)
        match verb:
            case "EHLO" | "HELO":
                self._ehlo = line[5:].decode(errors="replace")
                hello = self._hello() if verb == "EHLO" else f"250 {self._manners.name}"
                self._reply(hello, delay_s)
            case "MAIL":
                self._mail(line, delay_s)
            case "RCPT":
                self._recipient(line, delay_s)
            case "DATA" if self._rcpt:
                self._expects = "message"
                self._reply("354 go ahead", delay_s)
            case "DATA":
                self._reply("503 5.5.1 no valid recipient", delay_s)
            case "STARTTLS" if self._common.tls is not None and not self._tls:
                self._start_tls(self._common.tls)
            case "AUTH":
                self._auth(line)
            case "RSET" | "NOOP":
                self._sender = self._rcpt = ""
                self._reply("250 2.0.0 ok", delay_s)
            case "QUIT":
                self._say("221 2.0.0 bye")
                self._close()
            case _:
                self._reply("502 5.5.1 not here", delay_s)

    def _hello(self) -> str:
        offers = [
            self._manners.name,
            "SIZE 52428800",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "AUTH PLAIN LOGIN",
        ]
        if self._manners.pipelining:
            offers.insert(1, "PIPELINING")
        if self._common.tls is not None and not self._tls:
            offers.append("STARTTLS")
        return "\r\n".join(
            f"250{' ' if at == len(offers) - 1 else '-'}{offer}" for at, offer in enumerate(offers)
        )

    def _mail(self, line: bytes, delay_s: float) -> None:
        if self._manners.users and not self._user:
            self._reply("530 5.7.0 authenticate first", delay_s)
            return
        if self._doorman.too_many(self._common.clock.mono_ns()):
            self._seen.write("throttled", peer=self._peer, port=self._local)
            self._say("421 4.7.0 too much mail, come back later")
            self._close()
            return
        self._sender, self._mail_ns = _address(line), self._common.clock.now_ns()
        self._reply("250 2.1.0 ok", delay_s)

    def _recipient(self, line: bytes, delay_s: float) -> None:
        rcpt = _address(line)
        refusal = self._doorman.at_rcpt(
            self._peer, self._sender, rcpt, self._common.clock.mono_ns()
        )
        self._rcpt, self._rcpt_ns = "" if refusal else rcpt, self._common.clock.now_ns()
        reply = refusal or "250 2.1.5 ok"
        self._seen.write("rcpt", **self._who(), rcpt=rcpt, reply=reply)
        self._reply(reply, delay_s)

    def _who(self) -> dict[str, object]:
        return {
            "peer": self._peer,
            "port": self._local,
            "ehlo": self._ehlo,
            "user": self._user,
            "tls": self._tls,
            "sender": self._sender,
            "mail_ns": self._mail_ns,
        }

    # -- the message

    def _take_message(self) -> bool:
        if self._in.startswith(b".\r\n"):
            message, taken = b"", 3
        else:
            end = self._in.find(_DOT, self._looked)
            if end < 0:
                # A large message comes in many pieces: what was looked at is not looked at again.
                self._looked = max(0, len(self._in) - len(_DOT) + 1)
                return False
            message, taken = bytes(self._in[: end + 2]), end + len(_DOT)
        del self._in[:taken]
        self._looked, self._expects = 0, "command"
        self._message(_unstuffed(message))
        return True

    def _message(self, message: bytes) -> None:
        rcpt, self._rcpt = self._rcpt, ""
        verdict = self._doorman.after_dot(rcpt)
        head = message.partition(b"\r\n\r\n")[0]
        found = _MESSAGE_ID.search(head)
        self._seen.write(
            "message",
            **self._who(),
            rcpt=rcpt,
            rcpt_ns=self._rcpt_ns,
            message_id=found[1].decode(errors="replace") if found else "",
            sha256=hashlib.sha256(message).hexdigest(),
            size=len(message),
            file=self._seen.store(message) if verdict.taken else "",
            reply="dropped" if verdict.dropped else verdict.reply,
        )
        if verdict.dropped:
            self._close()
        else:
            self._reply(verdict.reply, verdict.delay_s)

    # -- AUTH (RFC 4954)

    def _auth(self, line: bytes) -> None:
        mechanism, *initial = line.split(b" ")[1:] or [b""]
        if mechanism.upper() not in (b"PLAIN", b"LOGIN"):
            self._say("504 5.5.4 no such mechanism")
            return
        self._expects, self._login = "auth", [mechanism.decode().upper()]
        if initial:
            self._authenticate(initial[0])
        else:
            self._say("334 VXNlcm5hbWU6" if self._login == ["LOGIN"] else "334 ")

    def _authenticate(self, line: bytes) -> None:
        try:
            self._login.append(base64.b64decode(line, validate=True).decode())
        except (binascii.Error, UnicodeDecodeError):
            self._expects = "command"
            self._say("501 5.5.2 no base64")
            return
        match self._login:
            case ["LOGIN", _]:
                self._say("334 UGFzc3dvcmQ6")
                return
            case ["LOGIN", user, password]:
                pass
            case _:
                _, user, password = [*self._login[1].split("\0"), "", "", ""][:3]
        self._expects = "command"
        known = self._doorman.knows(user, password)
        self._user = user if known else ""
        self._say("235 2.7.0 welcome" if known else "535 5.7.8 who are you?")

    # -- STARTTLS (RFC 3207)

    def _start_tls(self, context: ssl.SSLContext) -> None:
        self._say("220 2.0.0 go ahead")
        self._flush()
        # What was pipelined behind STARTTLS is not to be trusted (RFC 3207 4.2).
        self._in.clear()
        self._waiting = asyncio.ensure_future(self._upgrade(context))

    async def _upgrade(self, context: ssl.SSLContext) -> None:
        if self._transport is None:
            return
        try:
            made = await asyncio.get_running_loop().start_tls(
                self._transport, self, context, server_side=True
            )
        except (OSError, ssl.SSLError):
            self._transport.close()
            return
        finally:
            self._waiting = None
        if made is None:
            return
        self._transport = made
        self._tls = made.get_extra_info("ssl_object").version() or ""
        self._ehlo = self._sender = self._rcpt = ""
        self._work()


def _address(line: bytes) -> str:
    found = _PATH.search(line)
    return found[1].decode(errors="replace") if found else ""


def _unstuffed(message: bytes) -> bytes:
    """Take the transport's dots away (RFC 5321 4.5.2)."""
    message = message.replace(b"\r\n..", b"\r\n.")
    return message[1:] if message.startswith(b"..") else message
