"""How the service says no: status, code and message forms as its pages print them (contract §2.12, §3.6, §4, §8).

A `Refusal` raised anywhere in a request rolls its transaction back and becomes the answer. Both error shapes of the
wire are written in `app.py`; here are only the words.
"""

from __future__ import annotations


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def invalid(message: str) -> Refusal:
    return Refusal(400, "InvalidParameter", message)


def bad_parameter(name: str) -> Refusal:
    """A member that is missing, of the wrong type or out of range; the service names it and says no more."""
    return invalid(f"Required parameter({name}) missing or invalid, please check the request parameters.")


def unsupported(message: str) -> Refusal:
    return Refusal(400, "UnsupportedOperation", message)


def too_large(message: str) -> Refusal:
    return Refusal(400, "BadRequest.TooLarge", message)


def bad_key(message: str = "Invalid API-key provided.") -> Refusal:
    return Refusal(401, "InvalidApiKey", message)


def denied(message: str = "Access denied.") -> Refusal:
    return Refusal(403, "AccessDenied", message)


def not_found(message: str = "Not found!") -> Refusal:
    return Refusal(404, "NotFound", message)


def conflict(message: str) -> Refusal:
    return Refusal(409, "Conflict", message)


def internal() -> Refusal:
    return Refusal(500, "InternalError", "Internal server error!")


def usual(status: int) -> Refusal:
    """What the service says with a status most often (contract §8.2); for statuses it does not use, the nearest."""
    refusals = (bad_key(), denied(), not_found(), conflict("The resource already exists."), throttled())
    found = {refusal.status: refusal for refusal in refusals}.get(status)
    if found:
        return found
    return internal() if status >= 500 else invalid("Required body invalid, please check the request body format.")


def throttled() -> Refusal:
    return Refusal(429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later.")
