"""The quotas of AWS (`lockstep.quotas`)."""

from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from math import ceil

from lockstep.adoption import MOST_WITH_SECRETS
from lockstep.model import AdminIam, AdminSecret
from lockstep.plan import Plan
from lockstep.plan_admins import is_plain_name, names_in_aws
from lockstep.provision.pace import AWS_QUOTA, AWS_RATE
from lockstep.quotas.base import SPLIT, Estate, Quota, Use, grows
from lockstep.quotas.rates import of_rates
from lockstep.store_kinds.aws_secrets_manager import AwsSecretsManager

_AWS = "https://docs.aws.amazon.com"


def of_aws(plan: Plan, estate: Estate) -> Iterator[Use]:
    """What a plan needs of AWS's quotas."""
    yield from _of_cloudformation(plan, estate)
    yield from _of_iam(plan, estate)
    yield Use(
        quota=Quota(
            name="EventBridge, rules on the default bus",
            limit=300,
            unit="rules",
            source=f"{_AWS}/eventbridge/latest/userguide/eb-quota.html",
            change=f"ask AWS for more rules, or {SPLIT} in another region",
            adjustable=True,
        ),
        need=Fraction(len(plan.shards) + OTHER_RULES),
    )
    yield Use(
        quota=Quota(
            name="SQS, statements of the dead-letter queue's policy",
            limit=20,
            unit="statements",
            source=f"{_AWS}/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html",
            change=SPLIT,
        ),
        need=Fraction(QUEUE_STATEMENTS),
    )
    yield from _of_versions()
    if plan.store(AwsSecretsManager):
        yield from _of_secrets_manager(plan)
    yield from of_rates(plan)


OTHER_RULES = 3
"""Those that call the watch and `announce`, and the managed one of Step Functions."""
RESOURCES = 100
"""Of a stack with every option, without credentials; CDK's metadata included."""
SECRETS_EACH = 2
TEMPLATE_BYTES = 230_000
"""The same, of its template."""
SECRET_BYTES = 800
"""Of a secret in the template, names and tags apart."""
RULE_BYTES = 1500
"""Likewise of a shard's rule."""
TAG_BYTES = 75
"""Of one more tag on a resource, key and value apart."""
_NAME_IN_SECRET = 3
"""How often a secret's name appears: in its logical id, as its name, in its path."""
_STACK_IN_RESOURCE = 4


def _of_cloudformation(plan: Plan, estate: Estate) -> Iterator[Use]:
    """It has one size from `MOST_WITH_SECRETS` credentials on: an interval has 20 rules at most."""
    source = f"{_AWS}/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"
    made = _made_secrets(plan, estate)
    rules = len(plan.shards)
    yield Use(
        quota=Quota(
            name="CloudFormation, resources of the stack",
            limit=500,
            unit="resources",
            source=source,
            change=SPLIT,
        ),
        need=Fraction(RESOURCES + rules + len(made)),
    )
    tags = sum(TAG_BYTES + len(key) + len(value) for key, value in estate.tags.items())
    each = _STACK_IN_RESOURCE * len(estate.stack) + tags
    yield Use(
        quota=Quota(
            name="CloudFormation, template",
            limit=1024 * 1024,
            unit="bytes",
            source=source,
            change=f"give fewer or shorter tags (tags in cdk.json), or {SPLIT}",
        ),
        need=Fraction(
            TEMPLATE_BYTES
            + tags * RESOURCES
            + (each + RULE_BYTES) * rules
            + sum(each + SECRET_BYTES + _NAME_IN_SECRET * len(name) for name in made)
        ),
    )


def _made_secrets(plan: Plan, estate: Estate) -> list[str]:
    """Those that the stack makes. With more of them it takes `lockstep provision` (`secrets` in cdk.json)."""
    if plan.store(AwsSecretsManager) is None or len(plan.credential_sections) > MOST_WITH_SECRETS:
        return []
    names = [c.secret_names for c in plan.credential_sections]
    return [
        name
        for pair in names
        for name in (pair.app_user, pair.connection_blob)
        if not estate.adopts_secret(name)
    ]


RUNNER_POLICY = 3980
"""Characters of the OCI runner's policy, with the longest names."""
FUNCTION_POLICY = 4800
"""Characters of the largest inline policy of a role, likewise, without listed admins."""
LISTED_ADMIN = 45
"""Characters that an admin's secret adds to the policy, its ARN apart; twice for a region of its own."""
ARN_BEFORE_NAME = len("arn:aws-us-gov:secretsmanager:us-gov-west-1:111122223333:secret:")
KEY_CHARACTERS = 3 * 95
"""Of one more key, whose ARN is in three statements."""
LOGIN_CHARACTERS = 95
"""Of a region and username with which admins log in by IAM, the username apart."""
QUEUE_STATEMENTS = 2


def _of_iam(plan: Plan, estate: Estate) -> Iterator[Use]:
    logins = {
        (d.admin.region, d.admin.username) for d in plan.database_sections if isinstance(d.admin, AdminIam)
    }
    more = KEY_CHARACTERS * estate.keys + sum(LOGIN_CHARACTERS + len(name) for _, name in logins)
    source = f"{_AWS}/IAM/latest/UserGuide/reference_iam-quotas.html"
    if plan.runners.oci:
        yield Use(
            quota=Quota(
                name="IAM, managed policy of the OCI runner",
                limit=6144,
                unit="characters",
                source=source,
                change=SPLIT,
            ),
            need=Fraction(RUNNER_POLICY + more),
        )
    secrets = {d.admin.aws for d in plan.database_sections if isinstance(d.admin, AdminSecret)}
    listed = {secret for secret in secrets if not is_plain_name(secret)}
    size = sum(LISTED_ADMIN + ARN_BEFORE_NAME + len(secret) for secret in listed)
    yield Use(
        quota=Quota(
            name="IAM, inline policies of the function ApplyDb",
            limit=10240,
            unit="characters",
            source=source,
            change="keep admins' logins in secrets of this account, given by name and tagged, or let databases of one "
            f"server share a secret, or {SPLIT}",
        ),
        need=Fraction(FUNCTION_POLICY + more + size),
        each=Fraction(size, len(listed)) if listed else Fraction(0),
        per="admins' secrets that are given by ARN or by RDS's name",
        count=len(listed),
    )


ZIP_MEGABYTES = 20
"""Of the package of one function, at most."""
ZIPS_EACH = 4
"""Functions of which a deployment publishes a version."""
_DEPLOYMENTS = "deployments whose versions are kept"


def _of_versions() -> Iterator[Use]:
    """What two deployments use: no deployment deletes a version (protocol R14)."""
    clean_up = "delete old versions: docs/runbook.md#old-versions"
    yield Use(
        quota=Quota(
            name="Step Functions, versions of the state machine",
            limit=1000,
            unit="versions",
            source=f"{_AWS}/step-functions/latest/dg/service-quotas.html",
            change=clean_up,
        ),
        need=Fraction(2),
        each=Fraction(1),
        per=_DEPLOYMENTS,
        count=2,
    )
    yield Use(
        quota=Quota(
            name="Lambda, storage of zips in the region, with packaging zip",
            limit=75 * 1024,
            unit="MB",
            source=f"{_AWS}/lambda/latest/dg/gettingstarted-limits.html",
            change=clean_up,
            adjustable=True,
        ),
        need=Fraction(2 * ZIPS_EACH * ZIP_MEGABYTES),
        each=Fraction(ZIPS_EACH * ZIP_MEGABYTES),
        per=_DEPLOYMENTS,
        count=2,
    )


VERSIONS = 100
SECRETS_OF_A_REGION = 500_000


def _of_secrets_manager(plan: Plan) -> Iterator[Use]:
    source = f"{_AWS}/secretsmanager/latest/userguide/reference_limits.html"
    count = len(plan.credential_sections)
    fixed = len(names_in_aws(plan)) + len(plan.runners.aws.secrets)
    yield grows(
        plan,
        Quota(
            name="Secrets Manager, secrets in the region",
            limit=SECRETS_OF_A_REGION,
            unit="secrets",
            source=source,
            change=SPLIT,
        ),
        total=fixed + SECRETS_EACH * count,
        fixed=fixed,
    )
    yield Use(
        quota=Quota(
            name="Secrets Manager, CreateSecret by `lockstep provision`",
            limit=AWS_QUOTA,
            unit="a second",
            source=source,
            change="lockstep/provision/pace.py",
        ),
        need=Fraction(AWS_RATE),
    )
    shortest = min(c.interval for c in plan.credential_sections)
    yield Use(
        quota=Quota(
            name="Secrets Manager, versions of a secret younger than a day",
            limit=VERSIONS,
            unit="versions",
            source=source,
            change="use an interval of 20m or more",
        ),
        need=Fraction(ceil(timedelta(days=1) / shortest)),
    )
