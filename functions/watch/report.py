"""What `lockstep.operate.watch` has found, as one log line in CloudWatch's embedded metric format.

CloudWatch makes metrics of the numbers; the ids beside them are for people and for queries of the log
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
"""

import json
from datetime import datetime

from lockstep.operate.watch import Found, namespace, shown


def line(found: Found, *, stack: str, now: datetime) -> str:
    """The line, without its end.

    Args:
        found: Numbers and ids; the line holds nothing else (protocol I6).
        stack: The stack's name: a set of dimensions may not be empty.
        now: When it was found.
    """
    directive = {
        "Namespace": namespace(stack),
        "Dimensions": [["Stack"]],
        "Metrics": [
            {"Name": name, "Unit": "Seconds" if name.endswith("Seconds") else "Count"}
            for name in found.metrics
        ],
    }
    return json.dumps(
        {
            "_aws": {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]},
            "Stack": stack,
            **found.metrics,
            "ids": {name: shown(ids) for name, ids in found.ids.items()},
        }
    )
