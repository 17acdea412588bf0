"""Placeholder until the merge."""
from hashlib import blake2b
from dobatch_pandas.config import settings
def account_here(home: object) -> str:
    return blake2b((settings().token or "").encode(), digest_size=8).hexdigest()
