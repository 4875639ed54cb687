"""From an HTTP answer of the API server to KubeError, once and for all callers."""

import json
from collections.abc import Mapping
from typing import Any, Final

from cachecluster.kube.api import Conflict, KubeError, NotFound, Rejected, Throttled, Unavailable


class Expired(KubeError):
    """HTTP 410 on a continued list; stays inside the client."""


_BY_STATUS: Final[Mapping[int, type[KubeError]]] = {
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    410: Expired,
}


def parsed(what: str, raw: bytes) -> dict[str, Any]:
    """The object in an answer; raises Unavailable if it is not JSON (a proxy's error page, a cut connection)."""
    try:
        found = json.loads(raw)
    except ValueError as error:
        raise Unavailable(f"{what}: the answer is not JSON") from error
    if not isinstance(found, dict):
        raise Unavailable(f"{what}: the answer is not an object")
    return found


def from_response(what: str, status: int, headers: Mapping[str, str], raw: bytes, *, quotable: bool) -> KubeError:
    """The error of an answer. The server's message may quote what was sent: not ``quotable`` keeps only its reason."""
    try:
        body = parsed(what, raw)
    except Unavailable:
        body = {}
    reason = str(body.get("reason") or f"HTTP {status}")
    message = f"{what}: {(quotable and body.get('message')) or reason}"
    if status == 401:
        return Unavailable(f"{what}: our credentials are not accepted")
    if status == 422 and _another_object(body):
        return Conflict(message)
    if status == 429:
        return Throttled(message, _retry_after(headers, body))
    return _BY_STATUS.get(status, Rejected if status < 500 else Unavailable)(message)


def _another_object(body: Mapping[str, Any]) -> bool:
    """A write with a uid met an object of another uid; the server calls that an edit of an immutable field."""
    causes = (body.get("details") or {}).get("causes") or ()
    return any(cause.get("field") == "metadata.uid" for cause in causes)


def _retry_after(headers: Mapping[str, str], body: Mapping[str, Any]) -> float:
    """Seconds; the header, else the Status object, else one."""
    for value in (headers.get("Retry-After"), (body.get("details") or {}).get("retryAfterSeconds")):
        try:
            return max(0.0, float(value))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
    return 1.0
