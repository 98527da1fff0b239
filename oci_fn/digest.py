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
from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

from fdk import context, response  # type: ignore[import-untyped]  # fdk ships no types

from lockstep.protocol.deadlines import Scope, end_process
from lockstep.protocol.errors import InvalidPlanError, InvalidRequestError, LockstepError
from lockstep.protocol.ports import Clock
from lockstep.protocol.strict_json import write
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import identity_of
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import DIGEST_VARIABLE, forget, hosted_runner
from oci_fn.face import MARGIN_SECONDS, Body, answered, seconds_left, shown
from oci_fn.retries import Retries

if TYPE_CHECKING:
    from lockstep.audit.digest import DigestKey, Made

logger = logging.getLogger("lockstep")


class DigestFunction:
    """The handler that fdk calls.

    Args:
        make: Makes the digest of this hour, if there is none yet; by default by the plan that the environment names.
        forget: Called after an identity was refused, so that it is read again.
        clock: Measures the time left.
        leave: Called if the work does not end in time (`lockstep.protocol.deadlines.Scope`).
    """

    def __init__(
        self,
        make: "Callable[[], Made] | None" = None,
        *,
        forget: Callable[[], None] = forget,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        leave: Callable[[], None] = end_process,
    ) -> None:
        self._make = make or _make
        self._forget = forget
        self._clock = clock
        self._leave = leave

    def __call__(self, ctx: context.InvokeContext, data: BytesIO | None = None) -> response.Response:
        """Answer one call of the function."""
        return answered(ctx, partial(self._called, ctx, data), forget=self._forget)

    def _called(self, ctx: context.InvokeContext, data: BytesIO | None) -> tuple[Body, bool]:
        if data and data.getvalue().strip() not in {b"", b"{}"}:
            raise InvalidRequestError
        ends_at = self._clock.monotonic() + seconds_left(ctx, self._clock)
        retries = Retries(self._clock, deadline=ends_at - MARGIN_SECONDS)
        try:
            with Scope(self._clock, ends_at=ends_at, leave=self._leave).open():
                made = retries.call("Digest", self._make)
        except LockstepError as error:
            logger.error(json.dumps({"digest": None, **shown(error)}))  # noqa: TRY400 - no traceback: it may hold a secret
            raise
        for level, line in made.lines:
            logger.log(level, json.dumps(line))
        return write(made), made.confirms and not made.problems


def _make() -> "Made":
    return hosted_runner(identity_of("oci/digest")).maker(_key).make()


def _key(clouds: Clouds) -> "DigestKey":
    from lockstep.oci.kms import VaultDigestKey  # noqa: PLC0415 - loaded within the time of the call

    vault = clouds.plan.vault
    if vault is None:
        raise InvalidPlanError
    return VaultDigestKey(
        clouds.oci(vault.region), os.environ[DIGEST_VARIABLE], elsewhere=clouds.endpoints.oci
    )
