"""The face of the function that makes digests: the same image as the standby, with a key and rights of its own.

    input    nothing, or {}
    output   {"stream": "oci", "hour": …, "chains": number, "problems": [ … ],
              "confirms": whether AWS's newest digest is not old}

It is answered with 502 where it tells a problem, where AWS has made no digest for three hours, and where there is none:
an alarm counts those.
"""

import json
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lockstep.plan.compiled import required
from lockstep.protocol.errors import InvalidRequestError, LockstepError
from lockstep.protocol.strict_json import write
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import identity_of
from lockstep.runtime.wiring import DIGEST_VARIABLE, hosted_runner
from oci_fn.face import Body, Call, Face

if TYPE_CHECKING:
    from collections.abc import Callable

    from lockstep.audit.digest import DigestKey, Made

logger = logging.getLogger("lockstep")


def _make() -> "Made":
    return hosted_runner(identity_of("oci/digest")).maker(_key).make()


@dataclass(eq=False)
class DigestFunction(Face):
    """The handler that fdk calls.

    Attributes:
        make: Makes the digest of this hour, if there is none yet; by default by the plan that the environment names.
    """

    make: "Callable[[], Made]" = _make

    def answer(self, call: Call) -> tuple[Body, bool]:
        """See `Face`."""
        if call.document != {}:
            raise InvalidRequestError
        try:
            with self.scope(call):
                made = self.retries(call).call("Digest", self.make)
        except LockstepError as error:
            logger.error(json.dumps({"digest": None, **self.caught(error)}))  # noqa: TRY400 - no traceback: it may hold a secret
            raise
        for level, line in made.lines:
            logger.log(level, json.dumps(line))
        return write(made), made.confirms and not made.problems


def _key(clouds: Clouds) -> "DigestKey":
    from lockstep.oci.kms import VaultDigestKey  # noqa: PLC0415 - loaded within the time of the call

    region = required(clouds.plan.vault).region
    return VaultDigestKey(clouds.oci(region), os.environ[DIGEST_VARIABLE], elsewhere=clouds.oci_endpoint)
