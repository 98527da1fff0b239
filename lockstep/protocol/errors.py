"""Every way in which a rotation can fail, in two families (protocol F1).

The state machine matches on these class names, so they are part of the interface: its `Retry` lists
name the *retryable* ones, and the *terminal* ones end the run. A skipped run has not failed; skipping is an outcome.

The text of each error is its docstring plus a few checked fields (names, numbers, codes). No constructor takes
free text, so a foreign message, which may hold a password, cannot get into a log line or a state machine history.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from functools import cache
from typing import ClassVar

_SAFE_FIELD = re.compile(r"[A-Za-z0-9_.:/@+ -]{1,120}")
_FIELDS = frozenset(
    {
        *("credential", "store", "secret", "database", "generation", "stream", "seq", "code", "path"),
        *("username", "owner", "profile", "action", "region", "host", "until", "stage"),
    }
)


class LockstepError(Exception):
    """Something went wrong.

    A subclass's documentation is what a person is told: what it means, then in a paragraph what to do next.

    Attributes:
        meaning: What it means.
        advice: What a person does next.
        advices: The same by the code, where that decides it.
    """

    meaning = "Something went wrong."
    advice = ""
    advices: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        meaning, _, advice = (cls.__doc__ or "").partition("\n\n")
        cls.meaning = " ".join(meaning.split())
        cls.advice = " ".join(advice.split()) or cls.advice

    def __init__(self, **where: str | int) -> None:
        """Keep where it happened.

        Args:
            where: Any of credential, store, secret, database, generation, stream, seq, code, path, username, owner,
                profile, action, region, host, until, stage. A value that does not look like a name, a number, a time or
                a code is shown as `?`. With a stage a login was ended after its password had been asked for, in words
                that are not the server's for a wrong one.
        """
        unknown = where.keys() - _FIELDS
        if unknown:
            raise TypeError(f"not a field of an error: {sorted(unknown)}")
        self.where = {key: _printable(value) for key, value in where.items()}
        self.advice = self.advices.get(self.where.get("code", ""), self.advice)
        super().__init__(self._text())

    @property
    def name(self) -> str:
        """By which a person is told it."""
        return type(self).__name__

    def _text(self) -> str:
        place = ", ".join(f"{key}={value}" for key, value in self.where.items())
        return " ".join(part for part in (self.meaning, f"[{place}]" if place else "", self.advice) if part)


def _printable(value: str | int) -> str:
    text = str(value)
    return text if _SAFE_FIELD.fullmatch(text) else "?"


class RetryableError(LockstepError):
    """A later try may succeed."""


class TerminalError(LockstepError):
    """Trying again does not help until something has changed."""


# Retryable: the state machine's Retry lists name exactly these.


class StoreUnreachableError(RetryableError):
    """The secrets manager did not answer.

    The next run tries again. If it lasts, look at the network: `lockstep doctor --in-cloud`.
    """


class StoreThrottledError(RetryableError):
    """The secrets manager throttles the calls.

    The next run tries again. If it lasts, find who else calls it so often, or lengthen `interval` in the plan.
    """


class StoreBusyError(RetryableError):
    """The secret is being updated by another call.

    The next run tries again. If it lasts, find who else writes there: `lockstep status`.
    """


class LostCompareAndSetError(RetryableError):
    """Another writer changed the same thing between the read and the write.

    The next run tries again. If it lasts, find who else writes there: `lockstep status`.
    """


class ReadSideLaggingError(RetryableError):
    """The store does not serve the promoted version yet.

    The next run looks again. If it lasts, see what each store serves: `lockstep status`.
    """


class DatabaseUnreachableError(RetryableError):
    """The database did not answer in time.

    The next run tries again. If it lasts, look at the server and the way to it: `lockstep doctor`.
    """


class DatabaseBusyError(RetryableError):
    """The database accepts no more connections at the moment.

    The next run tries again. If it lasts, find who holds the connections, or raise `max_connections`.
    """


class DatabaseReadOnlyError(RetryableError):
    """The database takes no writes: it is a replica, or is failing over.

    Wait for the fail-over to end. If it lasts, name the host that takes writes: `host` in the plan.
    """


class AdvisoryLockBusyError(RetryableError):
    """Another rotation holds the database's advisory lock for this credential.

    The next run tries again. If it lasts, see which run holds it: `lockstep lock show`.
    """


class LockTableUnreachableError(RetryableError):
    """The lock table did not answer.

    The next run tries again. If it lasts, look at the network: `lockstep doctor --in-cloud`.
    """


class AuditLogUnreachableError(RetryableError):
    """The audit log or its signing key did not answer.

    The next run tries again. If it lasts, look at the network: `lockstep doctor --in-cloud`.
    """


class PlanUnreachableError(RetryableError):
    """The bucket of the published plan did not answer.

    The next run tries again. If it lasts, look at the network: `lockstep doctor --in-cloud`.
    """


# Terminal.

MALFORMED_ITEM = "MalformedItem"
"""The code of a lock record that Lockstep has not written."""


class InvalidPlanError(TerminalError):
    """The plan file is not valid.

    Run `lockstep check`.
    """


class PlanDocumentMissingError(TerminalError):
    """The published plan has no such document.

    Publish the plan that was deployed: `lockstep plan publish`.
    """


class PlanDocumentRefusedError(TerminalError):
    """The document is not of the published plan that was deployed, so it is not used. Nothing was changed.

    Find out who wrote it, delete it, and publish the plan's own: `lockstep plan publish`.
    """


class PlanAccessDeniedError(TerminalError):
    """The bucket of the published plan does not exist or denies access to this identity.

    Deploy the bucket and the rights to it: `make deploy-aws`, `make deploy-oci`.
    """


class InvalidRequestError(TerminalError):
    """The input of this run is not valid. Nothing was changed.

    Name a credential of the plan that is deployed, `lockstep check`; a new one is deployed first: `make
    deploy-aws`.
    """


class FenceLostError(TerminalError):
    """This run has lost the lock or its claim, so it must not change anything.

    Nothing to do: the run that has the lock continues. See which: `lockstep lock show`.
    """


class PlanNotActiveError(TerminalError):
    """This runner's plan of the credential is not the active one, so it changes nothing.

    Deploy the active plan, or make this one active: `lockstep apply`.
    """


class NewerFormatError(TerminalError):
    """A newer build of Lockstep wrote this, so this one does not read it and changes nothing.

    Upgrade this runner, `make deploy-aws`, `make deploy-oci`, or the command that you called, by the wheel of the newer
    release: docs/how-to/upgrade.md.
    """


class TakeOverNeededError(TerminalError):
    """No login is known that works, and nobody has consented to take the accounts over.

    Enter the login that works: `lockstep import`. If there is none, or its password may be lost: `lockstep
    take-over`.
    """


class StoresDivergedError(TerminalError):
    """The stores hold different values, and none of these logs in on every database.

    Look at what they hold, `lockstep status --read-values`, and bring in the login that works, `lockstep import`:
    docs/recover.md#stores-diverged.
    """


class StagedValueConflictError(TerminalError):
    """The store already holds another value under this generation.

    Find out whether a value was staged by hand, `lockstep status`, or two lock tables are in use: `lock` in the
    plans.
    """


class SecretNotFoundError(TerminalError):
    """The secret does not exist in the store.

    Correct its name in the plan, or make it: `lockstep secrets create`.
    """


class SecretMalformedError(TerminalError):
    """The secret does not hold a credential.

    `app_user` must be a JSON object with `username` and `password`: restore its previous version, or bring the
    login that works into it with `lockstep import --replace`. `connection_blob` must be a JSON object: keep what it
    has elsewhere, and put `{}` into it.
    """

    advices: ClassVar = {"placeholder": "It was never rotated: `lockstep rotate --force CREDENTIAL`."}


class EditedMeanwhileError(TerminalError):
    """A person has edited other keys of the secret since this run read it, and its value would replace them.

    Nothing to do: the next run keeps what was written.
    """


class SecretTooLargeError(TerminalError):
    """With the keys that it had before, the secret would be larger than its store allows.

    No store serves a new value, and no database has changed. Move keys of your own out of the secret.
    """


class StoreAccessDeniedError(TerminalError):
    """The secrets manager denies access to this identity.

    Compare the rights with docs/iam.md and docs/iam-oci.md: `lockstep doctor`. In AWS a secret that does not exist
    or lacks its tag is denied, too: `lockstep secrets tag`. In OCI a new slot needs the rights of the others.
    """


class StoreQuotaExceededError(TerminalError):
    """The secret has reached its limit of versions.

    Wait for the deletions that are scheduled. How long that takes, and which interval fits: `lockstep check`.
    """


class StoreRejectedError(TerminalError):
    """The secrets manager rejected the call.

    Look at the code, and compare the secret with the plan: `lockstep doctor`.
    """


class CurrentCredentialRejectedError(TerminalError):
    """The database refuses every login that Lockstep knows, so this account was left unchanged.

    Somebody changed the account. Set one of these passwords again, or bring in the login that works, `lockstep import`,
    or let the next run set the password, `lockstep take-over`: docs/recover.md#current-value-rejected.
    """


class PendingCredentialRejectedError(TerminalError):
    """The database accepted the pending value but refuses its login.

    Find what else decides on logins: pg_hba.conf, REQUIRE clauses, a proxy. Then: `lockstep rotate --force CREDENTIAL`.
    """


class PreviousCredentialAcceptedError(TerminalError):
    """A retired value still logs in.

    Find what lets it in: a server that asks for no password (`trust`), or a proxy that caches logins. Then:
    `lockstep rotate --force CREDENTIAL`.
    """


class PasswordRefusedByPolicyError(TerminalError):
    """The server's password policy refuses the generated password.

    Give the credential a longer `password_length` in the plan, or change the server's policy.
    """


class AccountUnusableError(TerminalError):
    """The account may not log in, whatever its password."""


class AccountLockedError(AccountUnusableError):
    """The account is locked, by a person or after too many wrong passwords in a row.

    Find out who locked it, or which client has a wrong password. Then, MySQL and MariaDB: `ALTER USER <account>
    ACCOUNT UNLOCK`; PostgreSQL: `ALTER ROLE <role> LOGIN`.
    """


class AccountExpiredError(AccountUnusableError):
    """The account or its password has expired.

    PostgreSQL: `ALTER ROLE <role> VALID UNTIL 'infinity'`. MySQL, MariaDB: `ALTER USER <account> PASSWORD EXPIRE
    NEVER`, and if the password was expired by hand, let Lockstep set it again: `lockstep take-over`.
    """


class AccountDeniedError(AccountUnusableError):
    """The account may not connect to the database from here, or does not act as its owner role.

    Compare its rights and its host with `lockstep plan sql`; on PostgreSQL also look at pg_hba.conf. Code `role`:
    `ALTER ROLE <role> SET role TO <owner>`; `ALTER ROLE <role> IN DATABASE <dbname> RESET role`.
    """


class AccountMissingError(TerminalError):
    """The account does not exist.

    Let a DBA run the output of `lockstep plan sql`.
    """


class AccountSetupError(TerminalError):
    """The account, or the server for it, is set up so that no password can be rotated; the code says why.

    See what is wrong, and the statement that corrects it: `lockstep doctor`.
    """

    advices: ClassVar = {
        "several-hosts": (
            "The username exists under another host than the plan's, or under several, so applications may be matched "
            "to another account. Keep one, give its host as `account_host` in the plan, and drop the others: "
            "`DROP USER <username>@<host>`."
        ),
        "lockout-limit": (
            "One wrong password would lock the account, so no old one can be shown to be revoked. Allow at least 2. "
            "MySQL: `ALTER USER <account> FAILED_LOGIN_ATTEMPTS 2`. MariaDB: `SET GLOBAL max_password_errors = 2`."
        ),
        "verifiers-refused": (
            "The server wants to check each password, and takes no verifiers. "
            "`SET GLOBAL strict_password_validation = OFF`; passwords that people set are checked all the same."
        ),
    }


class HostBlockedError(TerminalError):
    """The server has blocked this host because of too many failed connections.

    MySQL: `TRUNCATE TABLE performance_schema.host_cache`; MariaDB: `FLUSH HOSTS`. Then raise max_connect_errors.
    """


class AccountPluginError(TerminalError):
    """Lockstep makes no verifiers for the account's authentication plugin, so it cannot set a second password.

    Change the plugin once, with the present password: `ALTER USER <account> IDENTIFIED WITH caching_sha2_password
    BY <present password>`.
    """


class AdminCredentialRejectedError(TerminalError):
    """The database refuses the login of the rotation user.

    Put the login that works into its secret, `admin_secret` in the plan, or set its password with `lockstep plan sql`.
    If RDS has just rotated it, the next run continues.
    """


class PrivilegeMissingError(TerminalError):
    """The rotation user lacks a privilege.

    Compare its grants with `lockstep plan sql`.
    """


class TlsVerificationError(TerminalError):
    """The server's TLS certificate cannot be verified, or it offers no TLS.

    Renew the server's certificate, or name its CA and its host as the certificate does: `ca_file` and `host` in
    the plan. Look at it: `lockstep doctor`.
    """


class UnsupportedServerError(TerminalError):
    """The server does not support the chosen strategy.

    Use MySQL 8.0.21, MariaDB 10.4, PostgreSQL 10 or newer, and a `strategy` that the engine has: `lockstep check`.
    """


class ReplicaLaggingError(TerminalError):
    """A verify host has not applied the change of an account yet.

    The next run continues from here. If it repeats, check the replication, `lockstep doctor --only database`:
    docs/recover.md#a-verify-host-refuses-or-lags.
    """


class ReplicaRejectedError(TerminalError):
    """A verify host refuses the value that its database accepts as current.

    Its replication has stopped or somebody changed its accounts: `lockstep doctor --only database`, and
    docs/recover.md#a-verify-host-refuses-or-lags.
    """


class DatabaseRejectedError(TerminalError):
    """The database rejected the statement.

    Look at the code in the server's manual, and at the account and its rights: `lockstep doctor`.
    """


class UnknownUsernameError(TerminalError):
    """The secret's username is not one of this credential's logins in the plan.

    Enter a login of one of the plan's usernames, `lockstep import`, or correct `username` in the plan.
    """


class NoRoomError(TerminalError):
    """A database refuses what every store is to serve, and takes it only by ending a login that must still work.

    If it names a time, the first run after it continues. Else decide which login is right, and set it on the database:
    the next run continues. docs/recover.md#stores-diverged.
    """


class LockTableAccessDeniedError(TerminalError):
    """The lock table does not exist or denies access to this identity.

    Correct `lock` in the plan, deploy the stack, `make deploy-aws`, or give this identity the right: docs/iam.md.
    """

    advices: ClassVar = {
        MALFORMED_ITEM: (
            "It is there, but somebody else than Lockstep has written this record. Restore it from a backup of the "
            "table; or delete it and order the plan again: `lockstep apply`."
        ),
    }


class AuditLogAccessDeniedError(TerminalError):
    """The audit log or its signing key does not exist or denies access to this identity.

    Correct `audit` in the plan, deploy it, `make deploy-aws`, or give this identity the right: docs/iam.md. For
    orders name it in `operators` of cdk.json.
    """


class AuditVerificationError(TerminalError):
    """The audit log cannot be verified.

    See which entries, and what is wrong with them: `lockstep audit verify`.
    """


class OrderRefusedError(TerminalError):
    """The order was refused; the code says why. Nothing was changed.

    See what the record holds: `lockstep status`.
    """

    advices: ClassVar = {
        "account-owned": (
            "The account belongs to another credential. Take it out of one of the two plans; `lockstep retire` frees "
            "the accounts of a credential."
        ),
        "login-refused": "Enter the login that works there: `lockstep import`.",
        "lock-held": "Wait for the run to end: `lockstep lock show`.",
        "not-made": (
            "The store lacks a secret of the credential, and this identity may not make it, has no output of Terraform "
            "or finds its name taken. Who deploys makes it, or is told why not: `lockstep secrets create CREDENTIAL`."
        ),
    }


class NotHandedOnError(TerminalError):
    """The function in OCI could not be called for other credentials.

    Deploy it with its rights: `make deploy-oci`. Code `TooManyRequests`: ask Oracle for more memory for functions.
    What was not handed on is done one after the other.
    """


class EventNotSentError(TerminalError):
    """An event was not sent. It is no evidence, and nothing waits for it.

    Nothing waits for it. If it lasts, look at `events` in the plan and at the right to send there: `lockstep doctor
    --in-cloud`.
    """


class DeadlineExceededError(TerminalError):
    """The time for the call is over, or its step has ended, so it was not sent. The next run continues from here.

    If it happens again, look for the service that answers slowly: `lockstep doctor --in-cloud`.
    """


class StartedLateError(TerminalError):
    """The rotation would have begun too late after its trigger. Nothing was started.

    The other cloud or the next trigger rotates it. If it lasts, `concurrency` of the shard is too small:
    `lockstep check`.
    """


class FleetFailedError(TerminalError):
    """More rotations of a shard have failed than one credential explains.

    The cause names the report, which names them: `aws s3 cp s3://BUCKET/REPORT -`.
    """


class UnexpectedError(TerminalError):
    """An unexpected error. Its text is withheld because it may hold a secret.

    The next run tries again. If it lasts, report the code and the place, and look around: `lockstep doctor
    --in-cloud`.
    """


def family(kind: type[LockstepError]) -> list[type[LockstepError]]:
    """All leaf classes of a family, in the order in which they are written here."""
    return [c for sub in kind.__subclasses__() for c in (family(sub) or [sub])]


# What can be wrong where Lockstep runs: with the configuration, identity and network of this machine.
#
# The ports raise errors that say which part of a rotation failed, and the state machine matches on those. Where
# the reason is the environment, such an error has an `EnvironmentalError` as its cause (`__cause__`), and a person is
# told the cause instead. `lockstep/aws/clients.py` and `lockstep/oci/clients.py` find the cause in what the
# SDKs raise.


class Environment(Enum):
    """What can be wrong where Lockstep runs: a sentence that says what it means, then what a person does next.

    Attributes:
        PLAN_MISSING: There is no plan file, or it cannot be read. Write one with `lockstep init`, or name the file:
            `--plan FILE` or LOCKSTEP_PLAN.
        FILE_REFUSED: A file on this machine cannot be read or written. Look at its folder, its rights and the free
            space: `ls -ld`, `df -h`.
        OCI_EXTRA_MISSING: The SDK of Oracle Cloud is not installed, and the plan has something there. Install the wheel
            of the release again, with its extra: `pipx install --force "$(ls ./lockstep_rotation-*.whl)[oci]"`.
        TOKEN_FILE_UNUSABLE: The file with the agent's token cannot be read or made. Make its folder for the agent's
            user, `sudo install -d -m 0750 -o USER -g GROUP FOLDER`, or name another file: `token_file` in the settings.
            It must not be empty, nor readable by everybody: `chmod 0640 FILE`.
        ADDRESS_UNUSABLE: Nothing can listen there. Name another port, or end what listens there: `ss -lntp`.
        HOOK_FAILED: What follows a change of a file has failed; it is tried again at the next refresh. Run the file's
            `command` by itself, as the agent's user.
        CLOCK_SKEW: This machine's clock is wrong, so the cloud refuses its signatures. Set it: `timedatectl set-ntp
            true`.
        ENDPOINT_UNREACHABLE: The endpoint cannot be reached. Try it with `curl -v`; look at the network, HTTPS_PROXY,
            AWS_ENDPOINT_URL and LOCKSTEP_OCI_ENDPOINT.
        ENDPOINT_INVALID: The address of the endpoint is not valid. Correct AWS_ENDPOINT_URL or LOCKSTEP_OCI_ENDPOINT,
            or `unset` it.
        FOREIGN_ANSWER: What answered is not the cloud, but a proxy or a portal, for example. Look at the answer with
            `curl -v`; correct HTTPS_PROXY or AWS_ENDPOINT_URL.
        PROXY_UNUSABLE: The proxy cannot be used. Correct HTTPS_PROXY and HTTP_PROXY, or `unset` them.
        CERTIFICATE_REFUSED: The certificate of the endpoint cannot be verified. If a proxy opens TLS here, name its CA:
            `export AWS_CA_BUNDLE=FILE`, for OCI REQUESTS_CA_BUNDLE.
        CA_FILE_MISSING: The file with the CA certificates cannot be read. Correct AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or
            CURL_CA_BUNDLE, or `unset` it.
        AWS_PROFILE_MISSING: The AWS config has no such profile. List them with `aws configure list-profiles`, then set
            AWS_PROFILE.
        AWS_CONFIG_INVALID: The AWS config is not valid. Correct the file, or the variable; `aws configure list` shows
            what is used.
        AWS_REGION_INVALID: No AWS region is given, or there is none of that name. Correct `region` in the plan, then
            run `lockstep check`.
        AWS_CREDENTIALS_MISSING: There are no AWS credentials here, or only a part of them. Log in with `aws sso login`,
            or set AWS_PROFILE.
        AWS_CREDENTIALS_UNAVAILABLE: What should give the AWS credentials has failed. Try it by itself: `aws sts
            get-caller-identity`.
        AWS_CREDENTIALS_REFUSED: AWS does not accept these credentials. Try them with `aws sts get-caller-identity`; set
            AWS_PROFILE, or get new ones.
        AWS_SESSION_EXPIRED: The AWS session has expired. Log in again: `aws sso login`.
        AWS_ACTION_DENIED: AWS denies this action to this identity. See who you are with `aws sts get-caller-identity`;
            docs/iam.md lists who needs which rights.
        LOCK_TABLE_MISSING: The lock table does not exist in this account and region. Correct `lock` in the plan, or
            deploy the stack: `make deploy-aws`.
        AUDIT_KEY_MISSING: The key of the audit log does not exist in this account and region. Correct `mac_key` in the
            plan, or deploy the stack: `make deploy-aws`.
        STATE_MACHINE_MISSING: The state machine is not deployed in this account and region. Name the stack of cdk.json,
            `lockstep rotate --stack NAME CREDENTIAL`, or deploy it: `make deploy-aws`.
        AWS_RESOURCE_MISSING: What was asked for does not exist in this AWS account and region. Correct the plan, or
            deploy the stack: `make deploy-aws`.
        AWS_CALL_REFUSED: AWS did not answer the call, or refused it. Look at the code, and try the identity: `aws sts
            get-caller-identity`.
        OCI_CONFIG_INVALID: The OCI config does not exist, or is not valid. Correct OCI_CONFIG_FILE, OCI_CONFIG_PROFILE
            or the file that is named; a person makes a profile for an hour by `oci session authenticate`.
        OCI_IDENTITY_MISSING: There is no identity in OCI here: no config file, no resource principal, and no instance
            metadata answers. A VM needs its metadata (version 2), a pod of OKE OCI_RESOURCE_PRINCIPAL_VERSION and the
            token of its service account; a person logs in, `oci session authenticate`. It is looked for again.
        OCI_PRINCIPAL_UNAVAILABLE: What should give this machine its identity in OCI has failed. Ask as the machine: on
            a VM `oci --auth instance_principal os ns get`, in a pod of an enhanced OKE cluster `oci --auth
            oke_workload_identity os ns get`, elsewhere look at OCI_RESOURCE_PRINCIPAL_RPST. It is looked for again.
        OCI_KEY_UNREADABLE: The private key of the OCI config cannot be read. Correct `key_file` and `pass_phrase` in
            the config, or log in anew: `oci session authenticate`.
        OCI_IDENTITY_REFUSED: OCI does not accept this identity: its session is over, or its fingerprint, key, user or
            tenancy is wrong. Log in anew, `oci session authenticate`, or compare an API key with those of its user:
            `oci iam user api-key list --user-id USER`.
        OCI_ACTION_DENIED: OCI denies this action to this identity. Compare its policies, `oci iam policy list
            --compartment-id ID`, with docs/iam-oci.md.
        OCI_CALL_REFUSED: OCI did not answer the call, or refused it. Look at the code, and try the identity: `oci iam
            region list`.
        WEB_IDENTITY_DISABLED: AWS makes no tokens for OCI: outbound web identity federation is not enabled in this
            account. Enable it, once for the account: `aws iam enable-outbound-web-identity-federation`.
        DOMAIN_CLIENT_REFUSED: The identity domain in OCI refuses the application that exchanges tokens. Compare
            client_id, kms_key and certificate in `runners.aws.federation` with the domain's application: is it active,
            and has it the certificate of the key?
        DOMAIN_TOKEN_REFUSED: The identity domain in OCI refuses the token that AWS has made. Compare token in
            `runners.aws.federation` with the domain's identity propagation trust: is it active, and is its issuer the
            one that `aws iam get-outbound-web-identity-federation-info` says?
        DOMAIN_UNREACHABLE: The identity domain in OCI does not answer as it should. Try domain_url of
            `runners.aws.federation` with `curl -v`; look at the network and HTTPS_PROXY.
        ISSUER_KEY_REFUSED: OCI does not sign the token for AWS with the issuer's key. Compare
            `runners.oci.federation.key` with the key, `oci kms management key-version get`; docs/iam-oci.md names the
            permission.
        ISSUER_UNREADABLE: AWS cannot read the documents of the issuer in OCI, or they do not name the version of the
            key. Write them again: `lockstep identity publish`; the bucket must be readable by everybody.
        ISSUER_TOKEN_REFUSED: AWS refuses the token of the issuer in OCI. Compare `runners.oci.federation` with the OIDC
            provider and the trust policy of the role in AWS; is the key's version published? `lockstep identity publish
            --dry-run`.
        ISSUER_NOT_PUBLIC: A document of the issuer cannot be read by everyone, so AWS cannot verify the tokens. Let its
            bucket be read: `oci os bucket update --name BUCKET --public-access-type ObjectReadWithoutList`.
    """

    # This machine.
    PLAN_MISSING = auto()
    FILE_REFUSED = auto()
    OCI_EXTRA_MISSING = auto()
    TOKEN_FILE_UNUSABLE = auto()
    ADDRESS_UNUSABLE = auto()
    HOOK_FAILED = auto()
    CLOCK_SKEW = auto()

    # The network.
    ENDPOINT_UNREACHABLE = auto()
    ENDPOINT_INVALID = auto()
    FOREIGN_ANSWER = auto()
    PROXY_UNUSABLE = auto()
    CERTIFICATE_REFUSED = auto()
    CA_FILE_MISSING = auto()

    # AWS.
    AWS_PROFILE_MISSING = auto()
    AWS_CONFIG_INVALID = auto()
    AWS_REGION_INVALID = auto()
    AWS_CREDENTIALS_MISSING = auto()
    AWS_CREDENTIALS_UNAVAILABLE = auto()
    AWS_CREDENTIALS_REFUSED = auto()
    AWS_SESSION_EXPIRED = auto()
    AWS_ACTION_DENIED = auto()
    LOCK_TABLE_MISSING = auto()
    AUDIT_KEY_MISSING = auto()
    STATE_MACHINE_MISSING = auto()
    AWS_RESOURCE_MISSING = auto()
    AWS_CALL_REFUSED = auto()

    # Oracle Cloud.
    OCI_CONFIG_INVALID = auto()
    OCI_IDENTITY_MISSING = auto()
    OCI_PRINCIPAL_UNAVAILABLE = auto()
    OCI_KEY_UNREADABLE = auto()
    OCI_IDENTITY_REFUSED = auto()
    OCI_ACTION_DENIED = auto()
    OCI_CALL_REFUSED = auto()

    # Sessions in the other cloud.
    WEB_IDENTITY_DISABLED = auto()
    DOMAIN_CLIENT_REFUSED = auto()
    DOMAIN_TOKEN_REFUSED = auto()
    DOMAIN_UNREACHABLE = auto()
    ISSUER_KEY_REFUSED = auto()
    ISSUER_UNREADABLE = auto()
    ISSUER_TOKEN_REFUSED = auto()
    ISSUER_NOT_PUBLIC = auto()

    @property
    def error_name(self) -> str:
        """By which a person is told it, such as `AwsSessionExpiredError`."""
        return "".join(word.title() for word in self.name.split("_")) + "Error"

    @property
    def meaning(self) -> str:
        """What it means."""
        return _ENVIRONMENT[self.name][0]

    @property
    def advice(self) -> str:
        """What a person does next."""
        return _ENVIRONMENT[self.name][1]


def _texts(documentation: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for name, text in re.findall(r"^ {8}([A-Z_]+): (.+(?:\n {12}.+)*)", documentation, re.MULTILINE):
        meaning, _, advice = " ".join(text.split()).partition(". ")
        yield name, (f"{meaning}.", advice)


_ENVIRONMENT = dict(_texts(Environment.__doc__ or ""))


class EnvironmentalError(TerminalError):
    """Something is wrong where Lockstep runs.

    See which identity, network or clock it is: `lockstep doctor`, `lockstep doctor --in-cloud`.
    """

    def __init__(self, problem: Environment, **where: str | int) -> None:
        self.problem = problem
        self.meaning, self.advice = problem.meaning, problem.advice
        super().__init__(**where)

    @property
    def name(self) -> str:
        """That of the problem."""
        return self.problem.error_name


def described(error: LockstepError) -> LockstepError:
    """What a person needs to know of an error: its cause, if that is the environment."""
    return error.__cause__ if isinstance(error.__cause__, EnvironmentalError) else error


def line_of(error: LockstepError) -> str:
    """The error that a person is told, in one line."""
    shown = described(error)
    return f"{shown.name}: {shown}"


# What a call of a cloud that failed means, and which error that is for the port that made it.


class ErrorKind(Enum):
    """The meaning of a failed call, the same for every service of both clouds."""

    UNREACHABLE = auto()
    THROTTLED = auto()
    BUSY = auto()
    CHANGED = auto()
    QUOTA = auto()
    NOT_FOUND = auto()
    DENIED = auto()
    REJECTED = auto()


Errors = Mapping[ErrorKind, Callable[..., LockstepError]]
"""What each kind is called."""
_TRANSIENT = frozenset({ErrorKind.UNREACHABLE, ErrorKind.THROTTLED, ErrorKind.BUSY, ErrorKind.CHANGED})


def errors_of(unreachable: type[LockstepError], denied: type[LockstepError]) -> Errors:
    """What each kind is called of a service that knows two errors."""
    return {kind: unreachable if kind in _TRANSIENT else denied for kind in ErrorKind}


STORE_ERRORS: Errors = {
    ErrorKind.UNREACHABLE: StoreUnreachableError,
    ErrorKind.THROTTLED: StoreThrottledError,
    ErrorKind.BUSY: StoreBusyError,
    ErrorKind.CHANGED: LostCompareAndSetError,
    ErrorKind.QUOTA: StoreQuotaExceededError,
    ErrorKind.NOT_FOUND: SecretNotFoundError,
    ErrorKind.DENIED: StoreAccessDeniedError,
    ErrorKind.REJECTED: StoreRejectedError,
}
"""Where the secrets manager is asked, or an identity is had."""
AUDIT_ERRORS = errors_of(AuditLogUnreachableError, AuditLogAccessDeniedError)
PLAN_ERRORS = errors_of(PlanUnreachableError, PlanAccessDeniedError)


# What it means that no session can be had (protocol R19).


class SessionFailure(Exception):  # noqa: N818 - no error of ours: a port makes its own of it
    """There is no session in the other cloud. The clients of that cloud turn it into the error of the port.

    Attributes:
        kind: What can be done: UNREACHABLE, THROTTLED, or DENIED for everything else.
        code: The code of who refused.
        problem: What a person is told, which names the side; None where nothing is known.
    """

    def __init__(self, kind: ErrorKind, code: str, problem: EnvironmentalError | None) -> None:
        self.kind = kind if kind in {ErrorKind.UNREACHABLE, ErrorKind.THROTTLED} else ErrorKind.DENIED
        super().__init__(f"{self.kind.name} {code}")
        self.code = code
        self.problem = problem


@cache
def told_errors() -> Mapping[str, tuple[str, str]]:
    """Meaning and advice of every error, by the name by which a person is told it."""
    kinds = {kind.__name__: (kind.meaning, kind.advice) for kind in family(LockstepError)}
    return kinds | {problem.error_name: (problem.meaning, problem.advice) for problem in Environment}


def advice_of(name: str | None) -> str | None:
    """What fixes an error that a run ended with, by the error's name."""
    return told_errors().get(name or "", ("", ""))[1] or None
