"""A certificate for https: one that is given, or one that is made for this machine."""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from dobatch_pandas.errors import MissingExtra, ServerProblem

__all__ = ["Certificate", "given_certificate", "make_certificate"]


@dataclass(frozen=True)
class Certificate:
    """Paths of the certificate (with what leads to its authority), its key, and the authority to trust."""

    chain: Path
    key: Path
    authority: Path | None = None


def given_certificate(chain: str | Path, key: str | Path | None = None) -> Certificate:
    """A certificate that is there, checked; the key may be in the same file."""
    found = Certificate(Path(os.path.expanduser(chain)), Path(os.path.expanduser(key or chain)))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.chain, found.key)
    except (OSError, ssl.SSLError) as problem:
        raise ServerProblem(
            f"{found.chain} and {found.key} are no certificate with its key: {problem}"
        ) from problem
    return found


def make_certificate(folder: Path, names: tuple[str, ...] = ()) -> Certificate:
    """
    A certificate for this machine's names, and for those that are given, from an authority of its own.

    It is kept in the folder, so that a client which trusts the authority goes on trusting it after a restart.
    """
    found = Certificate(folder / "server.pem", folder / "server.key", folder / "authority.pem")
    named = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *names]
    wanted = "\n".join(dict.fromkeys(named))
    note = folder / "names.txt"
    if note.exists() and note.read_text(encoding="utf-8") == wanted and _is_good(found):
        return found
    try:
        import trustme
    except ImportError:
        raise MissingExtra("Making a certificate", "tls") from None
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = trustme.CA(organization_name="dobatch, an authority of this machine")
    made = authority.issue_cert(*wanted.split("\n"))
    authority.cert_pem.write_to_path(str(found.authority))
    found.chain.write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
    with os.fdopen(os.open(found.key, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(made.private_key_pem.bytes())
    note.write_text(wanted, encoding="utf-8")
    return found


def _is_good(found: Certificate) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(found.chain, found.key)
    except (OSError, ssl.SSLError):
        return False
    return found.authority is not None and found.authority.exists()
