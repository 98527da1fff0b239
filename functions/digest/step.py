"""An hour's digest, made and told in the log, whose lines alarms count."""

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lockstep.audit.digest import Maker

logger = logging.getLogger("lockstep")


def run(maker: "Maker") -> dict[str, Any]:
    """Make the digest of this hour, if there is none yet; hour, number of chains and problems.

    Raises:
        LockstepError: As `Maker.make`.
    """
    made = maker.make()
    stream = maker.own.stream
    for problem in made.problems:
        logger.error(
            "the audit log must be examined",
            extra={"examine": "audit-log", "stream": stream, "digest": made.hour, "problem": problem},
        )
    logger.info(
        "digest made",
        extra={
            "stream": stream,
            "digest": made.hour,
            "chains": made.chains,
            "problems": len(made.problems),
            "confirms": made.confirms,
        },
    )
    return {"hour": made.hour, "chains": made.chains, "problems": list(made.problems)}
