"""Tokens of RDS IAM authentication: a presigned request that RDS takes as a password.

It is made here, without a call, as `generate_db_auth_token` of the SDK makes it; that one needs the model of the
service RDS, which the bundles leave out
(https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html).
"""

from urllib.parse import urlencode

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest

from lockstep.aws.clients import Keys, aws_credentials, translated
from lockstep.protocol.errors import STORE_ERRORS
from lockstep.protocol.model import AdminIam, DatabaseServer, Login, SecretStr

LIFETIME_SECONDS = 900
"""How long RDS takes a token; it ends no session."""

_SCHEME = "https://"


def token_login(server: DatabaseServer, admin: AdminIam, keys: Keys | None) -> Login:
    """The rotation user's login for a server, which works for 15 minutes.

    Args:
        server: Its host and port are part of the token.
        admin: How the admin logs in there.
        keys: As of `lockstep.aws.clients.aws_client`.

    Raises:
        StoreAccessDeniedError: There is no AWS identity; likewise the other Store* errors.
    """
    query = urlencode({"Action": "connect", "DBUser": admin.username})
    request = AWSRequest(method="GET", url=f"{_SCHEME}{server.host}:{server.port}/?{query}")
    with translated(STORE_ERRORS, database=server.name):
        credentials = aws_credentials(keys)
        SigV4QueryAuth(credentials, "rds-db", admin.region, expires=LIFETIME_SECONDS).add_auth(request)
    return Login(admin.username, SecretStr(str(request.url).removeprefix(_SCHEME)))
