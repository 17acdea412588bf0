"""
Whose jobs and answers these are: nothing is picked up or given out across accounts.

An account is the name given with ``dobatch.configure(account=...)``, else a hash of the token, whose salt is private
to the home: neither tells the token. The file ``<home>/account.json`` keeps the salt, which accounts were used with
which service, and which tokens (as hashes) are of another's account, because somebody said ``account="same"``.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import filelock
import orjson

from dobatch_pandas.config import on_change, settings
from dobatch_pandas.errors import ConfigurationError

from .folder import JobRecord, written_whole

__all__ = ["account_here", "account_to_look", "is_ours"]

_FILE = "account.json"


def account_here(home: Path) -> str:
    """
    Return the account of the settings that hold now, as `home` knows it; empty where there is no token and no name.

    Parameters
    ----------
    home : pathlib.Path
        A folder that exists.

    Raises
    ------
    ConfigurationError
        The home cannot be read or written.
    """
    here = settings()
    if here.account is None and not here.token:
        return ""
    known = _read(home)
    account = _account(known)
    if account is not None and known["last"].get(here.base_url) == account:
        return account
    return _recorded(home)


def account_to_look(home: Path) -> str:
    """Return the account of the settings as `account_here` does, writing nothing: the home may be one to read only."""
    known = _read(home)
    account = _account(known)
    if account is None and known["salt"] and settings().token:
        account = _before(known, _hash(settings().token or "", known["salt"]))
    return account or ""  # a token of which the home knows nothing has asked nothing here


def is_ours(home: Path, record: JobRecord) -> bool:
    """Whether a job is of the account that is set now; those of version 0.1.0, which told none, are everybody's."""
    return record.account in ("", account_to_look(home))


def _account(known: dict[str, Any]) -> str | None:
    """Return the account of the settings; None where something has to be written down first."""
    here = settings()
    if here.account is not None:
        return here.account
    if not known["salt"] or not here.token:
        return None
    own = _hash(here.token, known["salt"])
    account = known["same"].get(own)
    if account is None and here.same_account and _before(known, own) is not None:
        return None
    return account or own


def _before(known: dict[str, Any], own: str) -> str | None:
    """Return the account that was used with this service before the token's own was; None where none was."""
    service = settings().base_url
    used = [account for base_url, account in known["used"] if base_url == service]
    if own in used:
        return used[used.index(own) - 1] if used[0] != own else None
    last: str | None = known["last"].get(service)
    return last


def _recorded(home: Path) -> str:
    """Write down which account is used now, and return it."""
    here = settings()
    path = home / _FILE
    try:
        with filelock.FileLock(home / "account.lock", timeout=60, mode=0o600):
            known = _read(home)
            known["salt"] = known["salt"] or secrets.token_hex(16)
            account = _account(known)
            if account is None:
                own = _hash(here.token or "", known["salt"])
                account = known["same"][own] = _before(known, own) or own
            if [here.base_url, account] not in known["used"]:
                known["used"].append([here.base_url, account])
            known["last"][here.base_url] = account
            with written_whole(path) as partial:
                partial.write_bytes(orjson.dumps(known))
    except filelock.Timeout:
        raise ConfigurationError(
            f"Another process has kept {home / 'account.lock'} for 60 seconds."
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"Cannot write {path}: {error.strerror or error}. Make the home folder writable, or choose another one "
            "with dobatch.configure(home=...) or DOBATCH_HOME."
        ) from error
    return account


def _read(home: Path) -> dict[str, Any]:
    path = home / _FILE
    try:
        known = orjson.loads(path.read_bytes())
        return {
            "salt": bytes.fromhex(known["salt"]).hex(),
            "used": [[str(base_url), str(account)] for base_url, account in known["used"]],
            "last": dict(known["last"]),
            "same": dict(known["same"]),
        }
    except FileNotFoundError:
        return {"salt": "", "used": [], "last": {}, "same": {}}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"Cannot read {path}, which tells whose the jobs of this home are: {error}. Make it readable or put a copy "
            "of it back; or move it away, and name the account of your jobs with dobatch.configure(account=...): it "
            "stands in each job's job.json."
        ) from error


def _hash(token: str, salt: str) -> str:
    return blake2b(token.strip().encode(), key=bytes.fromhex(salt), digest_size=16).hexdigest()


def _remember() -> None:
    # What was said in this process holds in later ones too, even if nothing is submitted here.
    here = settings()
    if here.same_account and os.path.isdir(here.home):
        with suppress(ConfigurationError):  # a home that may only be read: whoever submits to it is told
            account_here(here.home)


on_change(_remember)
