"""What a call of STS needs a permission for (https://docs.aws.amazon.com/service-authorization/latest/reference/).

Only `GetCallerIdentity` needs none, and `AssumeRoleWithWebIdentity`, which the token and the role's trust decide.
"""

from collections.abc import Iterator

from sandbox.emulators.aws.policies import Call
from sandbox.emulators.aws.query import QueryRequest

_WITHOUT_PERMISSION = {"AssumeRoleWithWebIdentity", "GetCallerIdentity"}


def sts_calls(asked: QueryRequest) -> Iterator[Call]:
    """The calls that a request stands for."""
    if asked.action in _WITHOUT_PERMISSION:
        return
    action = f"sts:{asked.action}"
    match asked.action:
        case "AssumeRole":
            yield Call(action=action, resource=asked.fields.get("RoleArn", "*"))
        case "GetWebIdentityToken":
            context = {"sts:IdentityTokenAudience": tuple(asked.members("Audience"))}
            for key in ("SigningAlgorithm", "DurationSeconds"):
                if key in asked.fields:
                    context[f"sts:{key}"] = (asked.fields[key],)
            yield Call(action=action, resource="*", context=context)
            if asked.fields.keys() & {"Tags.member.1.Key"}:
                yield Call(action="sts:TagGetWebIdentityToken", resource="*", context=context)
        case _:
            yield Call(action=action, resource="*")
