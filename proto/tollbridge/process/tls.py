"""Certificate, key and CA files: read, checked against each other, watched.

Rotation replaces files one after the other, so a reader can see a new certificate beside an old key. What is read
here counts only when certificate and key load together into an SSL context; until they do, the previous material
stays in force and a warning says so once.
"""

from __future__ import annotations

import _ssl
import asyncio
import logging
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from tollbridge.secret import Secret

POLL_SECONDS: Final = 1.0
"""Three small files are read each second. Comparing contents has none of the blind spots of modification times."""

MAX_FILE_BYTES: Final = 1024 * 1024
"""A CA bundle with every AWS region's roots has 165 KB; more than this is the wrong file."""

_SWAPPED: Final = "are the files of certificate and key swapped?"

_log = logging.getLogger(__name__)


class TlsFilesError(Exception):
    """Files that cannot be used. The message names the file and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where certificate chain, private key and the other side's CAs lie, all PEM."""

    cert_file: Path
    key_file: Path
    ca_file: Path | None = None
    """Who signs the other side's certificates; None where the other side shows none, or the system's CAs decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """What the files held when they last fitted together."""

    cert_pem: bytes
    key_pem: Secret
    ca_pem: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFacts:
    """What a certificate says about itself."""

    dns_names: tuple[str, ...]
    uris: tuple[str, ...]
    expires_at: str
    """As OpenSSL prints it: `Jun  1 12:00:00 2030 GMT`. `expires_at_seconds` is the same for arithmetic."""
    expires_at_seconds: int


def read(files: TlsFiles) -> TlsMaterial:
    """Read and check the files. Raises TlsFilesError."""
    material = TlsMaterial(
        cert_pem=_read(files.cert_file, "certificate"),
        key_pem=Secret(_read(files.key_file, "key").decode("ascii", "replace")),
        ca_pem=_read(files.ca_file, "CA") if files.ca_file else None,
    )
    # Swapped they load together all the same, and fail only in gRPC, which does not say why.
    if b"PRIVATE KEY-----" in material.cert_pem and b"-----BEGIN CERTIFICATE" not in material.cert_pem:
        raise TlsFilesError(f"{files.cert_file} holds a private key and no certificate: {_SWAPPED}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        load_into(context, material)
    except ssl.SSLError as error:
        raise TlsFilesError(
            f"{files.cert_file} and {files.key_file} are not a certificate and its private key, both PEM "
            f"({error.reason or error}); they may be half replaced"
        ) from error
    except OSError as error:  # no descriptor free: a watch must live through that
        raise TlsFilesError(f"cannot load {files.cert_file} and its key: {error.strerror or error}") from error
    if material.ca_pem is not None:
        try:
            # Bundles carry comments in any encoding; what counts is ASCII.
            context.load_verify_locations(cadata=material.ca_pem.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            raise TlsFilesError(f"{files.ca_file} holds no PEM certificates ({error})") from error
    return material


def load_into(context: ssl.SSLContext, material: TlsMaterial) -> None:
    """Load the certificate and its key into a context. Raises ssl.SSLError when they do not belong together."""
    with _private_file(material.cert_pem + b"\n" + material.key_pem.reveal().encode()) as path:
        context.load_cert_chain(path, password=_refuse_passphrase)


def certificate_facts(path: Path) -> CertificateFacts:
    """Read a certificate's names and expiry. Raises TlsFilesError."""
    content = _read(path, "certificate")
    try:
        # The one way to read a certificate's names with the standard library alone.
        decoded = _ssl._test_decode_cert(path)  # type: ignore[attr-defined]
    except ssl.SSLError as error:
        # This function's SSLError comes without `reason`.
        why = _SWAPPED if b"PRIVATE KEY-----" in content else str(error.args[0] if error.args else error)
        raise TlsFilesError(f"{path} holds no PEM certificate: {why}") from error
    names = [(str(kind), str(value)) for kind, value in decoded.get("subjectAltName", ())]
    not_after = str(decoded["notAfter"])
    return CertificateFacts(
        dns_names=tuple(value for kind, value in names if kind == "DNS"),
        uris=tuple(value for kind, value in names if kind == "URI"),
        expires_at=not_after,
        expires_at_seconds=ssl.cert_time_to_seconds(not_after),
    )


class TlsWatch:
    """Holds the newest material that fits together and tells those who asked about each change.

    Construction reads the files and raises TlsFilesError; from then on bad files are kept out with a warning.
    """

    def __init__(self, files: TlsFiles, *, what: str) -> None:
        self._files = files
        self._what = what
        self._hooks: list[Callable[[TlsMaterial], None]] = []
        self._complaint = ""
        self.rotations = 0
        """Changes that were taken over."""
        self.rejected = 0
        """Polls whose files did not fit together."""
        self.material = read(files)
        """What is in force."""

    def on_change(self, hook: Callable[[TlsMaterial], None]) -> None:
        """Call `hook` with each new material, on the loop."""
        self._hooks.append(hook)

    async def run(self) -> None:
        """Look at the files each second, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.poll()

    async def poll(self) -> bool:
        """Look once. True: there was something new and everybody was told."""
        try:
            material = await asyncio.to_thread(self._read_if_new)
        except TlsFilesError as error:
            self._reject(str(error))
            return False
        self._complaint = ""
        if material is None:
            return False
        self.material = material
        self.rotations += 1
        _log.info("%s: new certificate, key or CA taken over from %s", self._what, self._files.cert_file)
        for hook in self._hooks:
            hook(material)
        return True

    def _read_if_new(self) -> TlsMaterial | None:
        """The files' material if it differs from what is in force."""
        held = self.material
        if (
            _read(self._files.cert_file, "certificate") == held.cert_pem
            and _read(self._files.key_file, "key") == held.key_pem.reveal().encode()
            and (self._files.ca_file is None or _read(self._files.ca_file, "CA") == held.ca_pem)
        ):
            return None
        material = read(self._files)
        return None if material == held else material

    def _reject(self, complaint: str) -> None:
        self.rejected += 1
        if complaint != self._complaint:
            self._complaint = complaint
            _log.warning("%s: %s; the previous certificate and key stay in force", self._what, complaint)


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise TlsFilesError(f"cannot read the {what} file {path}: {error.strerror or error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise TlsFilesError(f"the {what} file {path} is larger than {MAX_FILE_BYTES} bytes")
    if not content.strip():
        raise TlsFilesError(f"the {what} file {path} is empty")
    return content


def _refuse_passphrase() -> NoReturn:
    # Without a callback OpenSSL would ask for the passphrase on the terminal and hang the process.
    raise TlsFilesError("the private key is encrypted; tollbridge reads unencrypted keys only")


@contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """A path under which `content` can be opened and nobody else finds it.

    SSL contexts load keys from paths only. In memory where Linux offers it: containers may have no writable disk.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as memory:
            memory.write(content)
            memory.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:  # pragma: no cover - other systems
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            yield file.name
