"""What the services answer when they refuse: status and code, as the SDK reads them from the body.

Codes are those of Oracle's page "API Errors" (common to all services) and, for Object Storage, of its own list.
"""


class ApiError(Exception):
    """A refusal. The message does not hold a secret's content or an object's bytes."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Make the refusal that the service would answer with."""
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


def not_authenticated(message: str) -> ApiError:
    """The signature is missing, wrong, by an unknown key, or its date is too far off."""
    return ApiError(401, "NotAuthenticated", message)


def not_found() -> ApiError:
    """OCI gives one answer for a missing resource and for a missing permission."""
    return ApiError(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")


def invalid(message: str) -> ApiError:
    """A parameter is out of range, malformed, or taken."""
    return ApiError(400, "InvalidParameter", message)


def missing(name: str) -> ApiError:
    """A required parameter is absent."""
    return ApiError(400, "MissingParameter", f"{name} is required")


def not_emulated(what: str) -> ApiError:
    """The real service does this and the emulator does not: said aloud, so that no test passes by accident."""
    return ApiError(501, "NotImplemented", f"the sandbox does not emulate {what}")


def oauth_error(code: str, description: str) -> ApiError:
    """A refusal of an identity domain (RFC 6749 5.2): 401 where the client is not who it says, else 400."""
    return ApiError(401 if code == "invalid_client" else 400, code, description)
