"""Log groups: made with the retention of the settings, or adopted as they are."""

from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from cdk.keys import KEPT
from cdk.settings import Settings

_RETENTION = {
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
}


def log_group(
    scope: Construct, construct_id: str, *, name: str, settings: Settings, key: kms.IKey
) -> logs.ILogGroup:
    """The log group with this name.

    Args:
        scope: Its parent.
        construct_id: Its id in the parent.
        name: Its name, which it has whatever the packaging.
        settings: Whether it exists, and the retention if it is made.
        key: Encrypts it if it is made.
    """
    if settings.adopt.adopts_log_group(name):
        return logs.LogGroup.from_log_group_name(scope, construct_id, name)
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        encryption_key=key,
        retention=_RETENTION[settings.log_retention_days],
        removal_policy=KEPT,
    )
