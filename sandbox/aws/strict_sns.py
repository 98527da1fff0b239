"""SNS as AWS documents it, where moto is more lenient."""

import copy
from collections.abc import Callable
from typing import Any, Final

from sandbox.aws.patching import Foreign, Patches

BY_PEOPLE: Final = frozenset({"email", "email-json"})
"""Protocols whose endpoint a person confirms, by the link in a mail."""
PENDING: Final = "PendingConfirmation"
"""What a list shows in the place of the ARN until then
(https://docs.aws.amazon.com/sns/latest/api/API_Subscribe.html)."""
_BACKEND = "moto.sns.models:SNSBackend"


def apply(patches: Patches) -> None:
    """Show a subscription by mail as pending until its `confirmed` is set, as its reader does."""
    for name in ("list_subscriptions", "list_subscriptions_by_topic"):
        patches.wrap(f"{_BACKEND}.{name}", _as_listed)


def _as_listed(original: Foreign) -> Callable[..., Any]:
    def listed(*arguments: Any, **more: Any) -> tuple[list[Foreign], int | None]:  # noqa: ANN401 - of moto
        found, token = original(*arguments, **more)
        return [_shown(subscription) for subscription in found], token

    return listed


def _shown(subscription: Foreign) -> Foreign:
    if subscription.protocol not in BY_PEOPLE or subscription.confirmed:
        return subscription
    shown = copy.copy(subscription)
    shown.arn = PENDING
    return shown
