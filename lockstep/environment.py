"""What can be wrong where Lockstep runs: with the configuration, identity and network of this machine.

The ports raise errors that say which part of a rotation failed, and the state machine matches on those. Where the
reason is the environment, such an error has one of these as its cause (`__cause__`), and a person is told the cause
instead. `lockstep/aws/environment.py` and `lockstep/oci/environment.py` find the cause in what the SDKs raise.
"""

from lockstep.errors import LockstepError, TerminalError


class EnvironmentalError(TerminalError):
    """Something is wrong where Lockstep runs."""


def told(error: LockstepError) -> LockstepError:
    """What a person needs to know of an error: its cause, if that is the environment."""
    return error.__cause__ if isinstance(error.__cause__, EnvironmentalError) else error


def line_of(error: LockstepError) -> str:
    """The error that a person is told, in one line."""
    shown = told(error)
    return f"{type(shown).__name__}: {shown}"


# This machine.


class PlanMissingError(EnvironmentalError):
    """There is no plan file, or it cannot be read."""

    advice = "Write one with `lockstep init`, or name the file: `--plan FILE` or LOCKSTEP_PLAN."


class FileRefusedError(EnvironmentalError):
    """A file on this machine cannot be read or written."""

    advice = "Look at its folder, its rights and the free space: `ls -ld`, `df -h`."


class CliExtraMissingError(EnvironmentalError):
    """The command line is not installed."""

    advice = "Install it: `pip install 'lockstep-rotation[cli]'`."


class AgentExtraMissingError(EnvironmentalError):
    """The agent is not installed."""

    advice = "Install it: `pip install 'lockstep-rotation[agent]'`."


class ServeExtraMissingError(EnvironmentalError):
    """The page is not installed."""

    advice = "Install it: `pip install 'lockstep-rotation[serve]'`."


class OciExtraMissingError(EnvironmentalError):
    """The SDK of Oracle Cloud is not installed, and the plan has something there."""

    advice = "Install it: `pip install 'lockstep-rotation[oci]'`."


class ClockSkewError(EnvironmentalError):
    """This machine's clock is wrong, so the cloud refuses its signatures."""

    advice = "Set it: `timedatectl set-ntp true`."


# The network.


class EndpointUnreachableError(EnvironmentalError):
    """The endpoint cannot be reached."""

    advice = (
        "Try it with `curl -v`; look at the network, HTTPS_PROXY, AWS_ENDPOINT_URL and LOCKSTEP_OCI_ENDPOINT."
    )


class EndpointInvalidError(EnvironmentalError):
    """The address of the endpoint is not valid."""

    advice = "Correct AWS_ENDPOINT_URL or LOCKSTEP_OCI_ENDPOINT, or `unset` it."


class ForeignAnswerError(EnvironmentalError):
    """What answered is not the cloud, but a proxy or a portal, for example."""

    advice = "Look at the answer with `curl -v`; correct HTTPS_PROXY or AWS_ENDPOINT_URL."


class ProxyUnusableError(EnvironmentalError):
    """The proxy cannot be used."""

    advice = "Correct HTTPS_PROXY and HTTP_PROXY, or `unset` them."


class CertificateRefusedError(EnvironmentalError):
    """The certificate of the endpoint cannot be verified."""

    advice = (
        "If a proxy opens TLS here, name its CA: `export AWS_CA_BUNDLE=FILE`, for OCI REQUESTS_CA_BUNDLE."
    )


class CaFileMissingError(EnvironmentalError):
    """The file with the CA certificates cannot be read."""

    advice = "Correct AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, or `unset` it."


# AWS.


class AwsProfileMissingError(EnvironmentalError):
    """The AWS config has no such profile."""

    advice = "List them with `aws configure list-profiles`, then set AWS_PROFILE."


class AwsConfigInvalidError(EnvironmentalError):
    """The AWS config is not valid."""

    advice = "Correct the file, or the variable; `aws configure list` shows what is used."


class AwsRegionInvalidError(EnvironmentalError):
    """No AWS region is given, or there is none of that name."""

    advice = "Correct `region` in the plan, then run `lockstep plan check`."


class AwsCredentialsMissingError(EnvironmentalError):
    """There are no AWS credentials here, or only a part of them."""

    advice = "Log in with `aws sso login`, or set AWS_PROFILE."


class AwsCredentialsUnavailableError(EnvironmentalError):
    """What should give the AWS credentials has failed."""

    advice = "Try it by itself: `aws sts get-caller-identity`."


class AwsCredentialsRefusedError(EnvironmentalError):
    """AWS does not accept these credentials."""

    advice = "Try them with `aws sts get-caller-identity`; set AWS_PROFILE, or get new ones."


class AwsSessionExpiredError(EnvironmentalError):
    """The AWS session has expired."""

    advice = "Log in again: `aws sso login`."


class AwsActionDeniedError(EnvironmentalError):
    """AWS denies this action to this identity."""

    advice = "See who you are with `aws sts get-caller-identity`; docs/iam.md lists who needs which rights."


class LockTableMissingError(EnvironmentalError):
    """The lock table does not exist in this account and region."""

    advice = "Correct `lock` in the plan, or deploy the stack: `make deploy-aws`."


class AuditBucketMissingError(EnvironmentalError):
    """The bucket of the audit log does not exist."""

    advice = "Correct `audit` in the plan, or deploy the stack: `make deploy-aws`."


class AuditKeyMissingError(EnvironmentalError):
    """The key of the audit log does not exist in this account and region."""

    advice = "Correct `mac_key` in the plan, or deploy the stack: `make deploy-aws`."


class StateMachineMissingError(EnvironmentalError):
    """The state machine is not deployed in this account and region."""

    advice = "Name the stack of cdk.json, `lockstep rotate --stack NAME`, or deploy it: `make deploy-aws`."


class AwsResourceMissingError(EnvironmentalError):
    """What was asked for does not exist in this AWS account and region."""

    advice = "Correct the plan, or deploy the stack: `make deploy-aws`."


class AwsCallRefusedError(EnvironmentalError):
    """AWS did not answer the call, or refused it."""

    advice = "Look at the code, and try the identity: `aws sts get-caller-identity`."


# Oracle Cloud.


class OciConfigMissingError(EnvironmentalError):
    """The OCI config file does not exist."""

    advice = "Correct OCI_CONFIG_FILE, or make the file: `oci setup config`."


class OciConfigInvalidError(EnvironmentalError):
    """The OCI config is not valid."""

    advice = "Correct the file that OCI_CONFIG_FILE names, or make it anew: `oci setup config`."


class OciIdentityMissingError(EnvironmentalError):
    """No identity in OCI is named here."""

    advice = "Name a config file: `export OCI_CONFIG_FILE=~/.oci/config`."


class OciKeyUnreadableError(EnvironmentalError):
    """The private key of the OCI config cannot be read."""

    advice = "Correct `key_file` and `pass_phrase` in the config, or make a new key: `oci setup keys`."


class OciIdentityRefusedError(EnvironmentalError):
    """OCI does not accept this identity: its fingerprint, key, user or tenancy is wrong."""

    advice = "Compare them with the API keys of the user: `oci iam user api-key list --user-id USER`."


class OciActionDeniedError(EnvironmentalError):
    """OCI denies this action to this identity."""

    advice = "Compare its policies, `oci iam policy list --compartment-id ID`, with docs/iam-oci.md."


class OciCallRefusedError(EnvironmentalError):
    """OCI did not answer the call, or refused it."""

    advice = "Look at the code, and try the identity: `oci iam region list`."


# Sessions in the other cloud.


class WebIdentityDisabledError(EnvironmentalError):
    """AWS makes no tokens for OCI: outbound web identity federation is not enabled in this account."""

    advice = "Enable it, once for the account: `aws iam enable-outbound-web-identity-federation`."


class DomainClientRefusedError(EnvironmentalError):
    """The identity domain in OCI refuses the application that exchanges tokens."""

    advice = (
        "Compare client_id and client in `runners.aws.federation` with the domain's application: is it active, and has "
        "it the certificate of the key?"
    )


class DomainTokenRefusedError(EnvironmentalError):
    """The identity domain in OCI refuses the token that AWS has made."""

    advice = (
        "Compare audience, token and resource_type in `runners.aws.federation` with the domain's identity propagation "
        "trust: is it active, and is its issuer the one that `aws iam get-outbound-web-identity-federation-info` says?"
    )


class DomainUnreachableError(EnvironmentalError):
    """The identity domain in OCI does not answer as it should."""

    advice = "Try domain_url of `runners.aws.federation` with `curl -v`; look at the network and HTTPS_PROXY."


class IssuerKeyRefusedError(EnvironmentalError):
    """OCI does not sign the token for AWS with the issuer's key."""

    advice = (
        "Compare `runners.oci.federation.key` with the key, `oci kms management key-version get`; docs/iam-oci.md "
        "names the permission."
    )


class IssuerUnreadableError(EnvironmentalError):
    """AWS cannot read the documents of the issuer in OCI, or they do not name the version of the key."""

    advice = "Write them again: `lockstep identity publish`; the bucket must be readable by everybody."


class IssuerTokenRefusedError(EnvironmentalError):
    """AWS refuses the token of the issuer in OCI."""

    advice = (
        "Compare `runners.oci.federation` with the OIDC provider and the trust policy of the role in AWS; is the key's "
        "version published? `lockstep identity publish --dry-run`."
    )


class IssuerNotPublicError(EnvironmentalError):
    """A document of the issuer cannot be read by everyone, so AWS cannot verify the tokens."""

    advice = "Let its bucket be read: `oci os bucket update --name BUCKET --public-access-type ObjectReadWithoutList`."
