"""Checks tokens, and the proofs that go with them (developers.facebook.com, "Secure Graph API Calls")."""

from __future__ import annotations

import hashlib
import hmac

from proxy.emulator.config import Config
from proxy.emulator.graph.writes import needs_no_token
from proxy.emulator.language.calls import Call
from proxy.emulator.language.errors import me_without_token, proof_required, proof_wrong, token_refused, token_required
from proxy.emulator.language.query import Params

_OPEN_EDGES = frozenset({"picture"})


def check(call: Call, config: Config) -> None:
    """Raise unless the call's token, or a call without one, may read or write the object."""
    if call.token is None:
        _check_anonymous(call, config)
        return
    check_token(call.token, config)
    if not call.has_batch_token or call.params.get("appsecret_proof"):
        check_proof(call.token, call.params, config)


def check_top(token: str, params: Params, config: Config) -> None:
    """Raise unless this may be the top-level token of a batch."""
    if token in config.refused_on_top:
        raise token_refused(config.refused_subcode)
    check_token(token, config)
    check_proof(token, params, config)


def check_token(token: str, config: Config) -> None:
    """Raise if the token is refused."""
    if token in config.refused_tokens:
        raise token_refused(config.refused_subcode)


def check_proof(token: str, params: Params, config: Config) -> None:
    """Raise if a needed proof is missing or a given one is wrong."""
    proof = params.get("appsecret_proof")
    if proof and config.app_secret:
        expected = proof_of(config.app_secret, token, params.get("appsecret_time"))
        if not hmac.compare_digest(str(proof).encode(), expected.encode()):
            raise proof_wrong()
    elif config.app_secret and config.require_proof:
        raise proof_required()


def proof_of(secret: str, token: str, time: object = None) -> str:
    """The proof for a token, or for a token at a time."""
    signed = token if time is None else f"{token}|{time}"
    return hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()


def _check_anonymous(call: Call, config: Config) -> None:
    if call.path[:1] == ("me",):
        raise me_without_token()
    ids = call.ids()
    is_open = len(call.path) == 2 and call.path[1] in _OPEN_EDGES
    is_public = bool(ids) and all(node_id in config.public_ids for node_id in ids)
    if not (is_open or is_public or call.path == ("oauth", "access_token") or needs_no_token(call)):
        raise token_required()
