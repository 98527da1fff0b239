"""The Lambda face of `lockstep.audit.digest`: an hour's digest of AWS's audit log.

A rule calls it a quarter past each hour, and what it raises makes Lambda call it again, twice.
"""

import os
from typing import Any

from functions.face import LambdaContext, logger, scope_of
from lockstep.aws.kms import KmsDigestKey
from lockstep.protocol.errors import LockstepError, UnexpectedError
from lockstep.protocol.strict_json import write
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import identity_of
from lockstep.runtime.wiring import DIGEST_VARIABLE, hosted_runner


def handler(_event: object, context: LambdaContext) -> dict[str, Any]:
    """Make the digest of this hour, if there is none yet. The rule's event says nothing.

    Raises:
        LockstepError: There is none: the bucket, a key or the published plan cannot be had.
        UnexpectedError: A foreign error, of which only the name is told.
    """
    try:
        with scope_of(context).open():
            made = hosted_runner(identity_of("aws/digest")).maker(_key).make()
    except LockstepError:
        raise
    except Exception as error:  # noqa: BLE001 - a foreign error that crossed a port: its text may hold a secret
        raise UnexpectedError(code=type(error).__name__) from None
    for level, line in made.lines:
        # Lambda writes the other fields beside the message; metric filters count the lines.
        logger.log(level, line["message"], extra={k: v for k, v in line.items() if k != "message"})
    return write(made)


def _key(clouds: Clouds) -> KmsDigestKey:
    return KmsDigestKey(clouds.aws("kms", clouds.plan.aws_stream.region), os.environ[DIGEST_VARIABLE])
