"""OpenDKIM's library as a verifier: the one that its milter uses, called in this process, a thousand messages a second.

`opendkim -t` would do for relaxed headers; it does not hand a field's first blank on, and simple headers count it. Keys come from a
mapping instead of DNS. The functions are those of libopendkim's manual pages.
"""

import ctypes
import ctypes.util
import re
from collections.abc import Mapping
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from typing import Final

from services.sender.dkim.canonicalise import division

_OK: Final = 0
#: dkim_sig_getflags: the signature fits the header and the key.
_PASSED: Final = 0x04
#: dkim_sig_getbh: the body has the hash that is signed.
_BODY_FITS: Final = 0
_FIELD_END: Final = re.compile(rb"\r\n(?![ \t])")
_LOOK_UP: Final = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_size_t)
_PARAMETERS: Final = {
    "dkim_init": [c_void_p, c_void_p],
    "dkim_close": [c_void_p],
    "dkim_set_key_lookup": [c_void_p, _LOOK_UP],
    "dkim_verify": [c_void_p, c_char_p, c_void_p, POINTER(c_int)],
    "dkim_header": [c_void_p, c_char_p, c_size_t],
    "dkim_eoh": [c_void_p],
    "dkim_body": [c_void_p, c_char_p, c_size_t],
    "dkim_eom": [c_void_p, c_void_p],
    "dkim_getsiglist": [c_void_p, POINTER(POINTER(c_void_p)), POINTER(c_int)],
    "dkim_sig_process": [c_void_p, c_void_p],
    "dkim_sig_getflags": [c_void_p],
    "dkim_sig_getbh": [c_void_p],
    "dkim_sig_getselector": [c_void_p],
    "dkim_free": [c_void_p],
}


class OpenDkim:
    """Verify with libopendkim; raises OSError where it is not installed."""

    def __init__(self, records: Mapping[str, str]) -> None:
        """``records``: selector -> TXT record."""
        self._lib = _library()
        self._records = {name.encode(): txt.encode() for name, txt in records.items()}
        # Kept: the library calls it as long as it lives.
        self._look_up = _LOOK_UP(self._found)
        self._handle = self._lib.dkim_init(None, None)
        assert self._lib.dkim_set_key_lookup(self._handle, self._look_up) == _OK

    def close(self) -> None:
        self._lib.dkim_close(self._handle)

    def accepts(self, message: bytes) -> list[bool]:
        """Whether each signature is good, from the top."""
        status = c_int()
        dkim = self._lib.dkim_verify(self._handle, b"message", None, byref(status))
        assert dkim, status
        try:
            self._feed(dkim, message)
            return self._judged(dkim)
        finally:
            self._lib.dkim_free(dkim)

    def _feed(self, dkim: int, message: bytes) -> None:
        end, start = division(message)
        for field in _FIELD_END.split(message[:end]):
            assert self._lib.dkim_header(dkim, field, len(field)) == _OK, field
        assert self._lib.dkim_eoh(dkim) == _OK
        assert self._lib.dkim_body(dkim, message[start:], len(message) - start) == _OK
        self._lib.dkim_eom(dkim, None)

    def _judged(self, dkim: int) -> list[bool]:
        signatures, count = POINTER(c_void_p)(), c_int()
        self._lib.dkim_getsiglist(dkim, byref(signatures), byref(count))
        found = []
        for signature in signatures[: count.value]:
            # Of several, the end of the message judges only as many as it needs to find a good one.
            self._lib.dkim_sig_process(dkim, signature)
            passed = self._lib.dkim_sig_getflags(signature) & _PASSED
            found.append(bool(passed) and self._lib.dkim_sig_getbh(signature) == _BODY_FITS)
        return found

    def _found(self, _dkim: int, signature: int, buffer: int, size: int) -> int:
        record = self._records[self._lib.dkim_sig_getselector(signature)] + b"\0"
        assert len(record) <= size
        ctypes.memmove(buffer, record, len(record))
        return _OK


def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(ctypes.util.find_library("opendkim") or "libopendkim.so.11")
    for name, parameters in _PARAMETERS.items():
        getattr(lib, name).argtypes = parameters
    for name in ("dkim_init", "dkim_verify"):
        getattr(lib, name).restype = c_void_p
    lib.dkim_sig_getselector.restype = c_char_p
    return lib
