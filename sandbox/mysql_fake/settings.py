"""The server's configuration."""

from dataclasses import dataclass

from sandbox.mysql_fake import auth


@dataclass(frozen=True)
class PasswordPolicy:
    """The component validate_password; its defaults are those of policy MEDIUM."""

    length: int = 8
    mixed_case_count: int = 1
    number_count: int = 1
    special_char_count: int = 1
    check_user_name: bool = True

    def allows(self, password: str, *, session_user: str) -> bool:
        """Whether a new password passes; it must differ from the *session's* user name, read either way."""
        return (
            len(password) >= self.length
            and sum(map(str.islower, password)) >= self.mixed_case_count
            and sum(map(str.isupper, password)) >= self.mixed_case_count
            and sum(map(str.isdigit, password)) >= self.number_count
            and sum(not c.isalnum() for c in password) >= self.special_char_count
            and not (self.check_user_name and password in (session_user, session_user[::-1]))
        )


@dataclass(kw_only=True)
class Settings:
    """What a server's configuration file would say; each may be changed while it runs.

    Attributes:
        version: As `VERSION()` tells it.
        require_secure_transport: Error 3159 for logins without TLS. Off in MySQL, on in RDS for MySQL 8.4.
        offers_tls: False: a server without TLS, or somebody in between who hides it.
        password_policy: The component validate_password; None: not installed.
        mysql_native_password: Whether the old plugin is loaded; 8.4 does not by default.
        retain_with_hash: Whether `IDENTIFIED WITH … AS 'hash' RETAIN CURRENT PASSWORD` is taken. The manual's
            grammar does not have it, the server's (sql_yacc.yy) and its design (WL#11540, FR2.1) do.
        max_connections: One more is kept for CONNECTION_ADMIN.
        connect_timeout_seconds: For the handshake and login.
    """

    version: str = "8.4.7"
    require_secure_transport: bool = True
    offers_tls: bool = True
    password_policy: PasswordPolicy | None = None
    mysql_native_password: bool = False
    retain_with_hash: bool = False
    max_connections: int = 64
    connect_timeout_seconds: float = 10.0

    def has_plugin(self, name: str) -> bool:
        """Whether an authentication plugin is loaded."""
        return name == auth.CACHING_SHA2 or (name == auth.NATIVE and self.mysql_native_password)
