"""Objects on disk behind signed addresses, as an object store has them."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

from .clock import Clock

__all__ = ["Objects", "Refused", "Signer"]

_NAME = re.compile(r"[A-Za-z0-9_-]+\.jsonl")


class Refused(Exception):
    """A signed address that storage does not accept: HTTP status, code and words."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Signer:
    """
    Makes signed addresses, and knows its own again.

    Parameters
    ----------
    key : bytes
        Secret; the same after a restart, so that addresses given out before stay good.
    clock : Clock
    lifetime : float
        Seconds that an address is good for.
    """

    def __init__(self, key: bytes, clock: Clock, lifetime: float = 900.0) -> None:
        self._key, self._clock, self.lifetime = key, clock, lifetime
        self._revoked: set[str] = set()

    def sign(self, base_url: str, method: str, path: str, content_type: str = "") -> tuple[str, float]:
        """Return the address for one method on one path, and when it ends (Unix seconds)."""
        expires = int(self._clock.now() + self.lifetime)
        query = {"expires": str(expires), "nonce": secrets.token_hex(4)}
        if content_type:
            query["content-type"] = content_type
        query["signature"] = self._signature(method, path, query)
        return f"{base_url.rstrip('/')}{path}?{urlencode(query)}", float(expires)

    def verify(
        self, method: str, path: str, query: Sequence[tuple[str, str]], headers: Mapping[str, str]
    ) -> None:
        """Raise `Refused` unless this very request was signed, and still may be made."""
        if "authorization" in headers:
            raise Refused(
                400, "InvalidArgument", "Only one auth mechanism allowed: the signature or Authorization"
            )
        given = dict(query)
        if len(given) < len(query):
            # Two readers may take different ones of two.
            raise Refused(403, "SignatureDoesNotMatch", "A parameter stands there twice")
        signature = given.pop("signature", "")
        # Compared as bytes: compare_digest takes no text beyond ASCII.
        if not hmac.compare_digest(self._signature(method, path, given).encode(), signature.encode()):
            raise Refused(403, "SignatureDoesNotMatch", "The request is not the one that was signed")
        if self._clock.now() >= float(given["expires"]) or signature in self._revoked:
            raise Refused(403, "AccessDenied", "Request has expired")
        signed_type = given.get("content-type", "")
        sent_type = headers.get("content-type", "")
        # A missing type is as good as the default one, and only then.
        if (
            signed_type
            and sent_type != signed_type
            and (sent_type or signed_type != "application/octet-stream")
        ):
            raise Refused(
                403, "SignatureDoesNotMatch", f"Content-Type {sent_type!r} is not the one that was signed"
            )

    def revoke(self, signature: str) -> None:
        """Let one address end now."""
        self._revoked.add(signature)

    def _signature(self, method: str, path: str, query: Mapping[str, str]) -> str:
        # Written so that no part can pass for another's beginning or end.
        signed = json.dumps([method, path, sorted(query.items())])
        return hmac.new(self._key, signed.encode(), hashlib.sha256).hexdigest()


class Objects:
    """
    Files by name in one folder; each appears whole or not at all.

    Parameters
    ----------
    folder : pathlib.Path
        Made if missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        """Where the object of this name lies, whether it is there or not."""
        if not _NAME.fullmatch(name):
            raise Refused(404, "NoSuchKey", "The specified key does not exist")
        return self.folder / name

    def has(self, name: str) -> bool:
        """Whether the object is there: what a HEAD would say."""
        return self.path(name).is_file()

    async def receive(self, name: str, body: AsyncIterator[bytes]) -> str:
        """
        Write a body as it comes in, publish it, and return its ETag.

        A body that breaks off (the iterator raises) leaves nothing behind.
        """
        target = self.path(name)
        partial = target.with_suffix(f".{secrets.token_hex(4)}.partial")
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with partial.open("wb") as file:
                async for chunk in body:
                    file.write(chunk)
                    digest.update(chunk)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        return f'"{digest.hexdigest()}"'

    def clear(self, left_over: bool = False) -> None:
        """Remove every object, or only what uploads left that a crash broke off."""
        for path in self.folder.glob("*.partial" if left_over else "*"):
            path.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        self.path(name).unlink(missing_ok=True)
