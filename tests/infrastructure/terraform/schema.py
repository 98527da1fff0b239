"""The arguments of the provider `oracle/oci` that Lockstep's configuration may use.

From the provider's documentation (https://docs.oracle.com/en-us/iaas/tools/terraform-provider-oci/latest/). With the
real provider, `tests.infrastructure.terraform.compare` finds what differs; with version 8.28.0 it finds nothing. An
argument that is not listed is refused, like one that does not exist.

A row names arguments: `name` is optional, `name!` required, `name*` computed. With `^` a change of it makes a new
resource. A type other than string follows: `:number`, `:bool`, `:list`, `:map` or, in data sources, `:rows` (a list of
objects). A block has a row of its own, and how often it may occur.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["string", "number", "bool", "list", "map", "rows"]


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a block."""

    name: str
    kind: Kind
    presence: Literal["required", "optional", "computed"]
    forces_new: bool


@dataclass(frozen=True, slots=True)
class Block:
    """The arguments and blocks inside a block."""

    row: str
    blocks: Mapping[str, "Block"] = field(default_factory=dict)
    at_least: int = 0
    at_most: int = 1

    @property
    def arguments(self) -> Iterator[Argument]:
        """The arguments in the row."""
        for word in self.row.split():
            name, mark, new, kind = re.fullmatch(r"(\w+)([!*]?)(\^?)(?::(\w+))?", word).groups()  # type: ignore[union-attr]
            presence = {"!": "required", "*": "computed", "": "optional"}[mark]
            yield Argument(name, kind or "string", presence, bool(new))  # type: ignore[arg-type]  # from the table below


@dataclass(frozen=True, slots=True)
class Resource:
    """A type of resource.

    Attributes:
        ocid: The type in its OCIDs; empty if it has no OCID.
        block: Its arguments.
        values: Patterns of the values that the service accepts for some arguments.
    """

    ocid: str
    block: Block
    values: Mapping[str, str] = field(default_factory=dict)


_TAGS = "defined_tags:map freeform_tags:map"
_OCID = r"ocid1\.{}\.oc1\.[a-z0-9-]*\.[a-z0-9]+"

RESOURCES: Mapping[str, Resource] = {
    "oci_kms_vault": Resource(
        "vault",
        Block(
            "compartment_id! display_name! vault_type!^ time_of_deletion id* management_endpoint* crypto_endpoint*"
            f" {_TAGS}"
        ),
        {"vault_type": "DEFAULT|VIRTUAL_PRIVATE|EXTERNAL"},
    ),
    "oci_kms_key": Resource(
        "key",
        Block(
            "compartment_id! display_name! management_endpoint!^ desired_state is_auto_rotation_enabled:bool"
            f" protection_mode^ time_of_deletion id* current_key_version* {_TAGS}",
            {"key_shape": Block("algorithm! curve_id length!:number", at_least=1)},
        ),
        {"protection_mode": "HSM|SOFTWARE|EXTERNAL", "management_endpoint": "https://.+"},
    ),
    "oci_vault_secret": Resource(
        "vaultsecret",
        Block(
            "compartment_id! key_id! secret_name!^ vault_id!^ description enable_auto_generation:bool metadata:map"
            f" id* {_TAGS}",
            {
                "secret_content": Block("content_type! content name stage"),
                "secret_generation_context": Block(
                    "generation_template! generation_type! passphrase_length:number secret_template"
                ),
            },
        ),
        {
            "secret_name": r"[A-Za-z0-9._-]{1,255}",
            "vault_id": _OCID.format("vault"),
            "key_id": _OCID.format("key"),
        },
    ),
    "oci_objectstorage_bucket": Resource(
        "bucket",
        Block(
            "compartment_id! name! namespace!^ access_type auto_tiering kms_key_id metadata:map"
            f" object_events_enabled:bool storage_tier^ versioning id* bucket_id* {_TAGS}",
            {
                "retention_rules": Block(
                    "display_name! time_rule_locked",
                    {"duration": Block("time_amount! time_unit!")},
                    at_most=99,
                )
            },
        ),
        {
            "access_type": "NoPublicAccess|ObjectRead|ObjectReadWithoutList",
            "storage_tier": "Standard|Archive",
            "versioning": "Enabled|Disabled",
            "kms_key_id": _OCID.format("key"),
        },
    ),
    "oci_identity_compartment": Resource(
        "compartment", Block(f"compartment_id! name! description! enable_delete:bool id* {_TAGS}")
    ),
    "oci_identity_user": Resource(
        "user",
        Block(f"compartment_id name! description! email id* {_TAGS}"),
        {"compartment_id": r"ocid1\.tenancy\..+"},
    ),
    "oci_identity_user_capabilities_management": Resource(
        "",
        Block(
            "user_id! can_use_api_keys:bool can_use_auth_tokens:bool can_use_console_password:bool"
            " can_use_customer_secret_keys:bool can_use_smtp_credentials:bool id*"
        ),
    ),
    "oci_identity_api_key": Resource("", Block("user_id!^ key_value!^ id* fingerprint*")),
    "oci_identity_group": Resource(
        "group",
        Block(f"compartment_id name! description! id* {_TAGS}"),
        {"compartment_id": r"ocid1\.tenancy\..+"},
    ),
    "oci_identity_user_group_membership": Resource(
        "groupmembership", Block("user_id! group_id! compartment_id id*")
    ),
    "oci_identity_dynamic_group": Resource(
        "dynamicgroup",
        Block(f"compartment_id! name! description! matching_rule! id* {_TAGS}"),
        {"compartment_id": r"ocid1\.tenancy\..+"},
    ),
    "oci_identity_domains_oauth_client_certificate": Resource(
        "oauthclientcertificate",
        Block("idcs_endpoint!^ schemas!^:list certificate_alias!^ x509base64certificate!^ id* ocid*"),
        {"x509base64certificate": r"[A-Za-z0-9+/]+={0,2}"},
    ),
    "oci_identity_domains_app": Resource(
        "domainapp",
        Block(
            "idcs_endpoint!^ schemas!:list display_name! name^ description active:bool is_oauth_client:bool client_type"
            " allowed_grants:list attributes attribute_sets:list force_delete:bool id* ocid* client_secret*"
            " domain_ocid*",
            {
                "based_on_template": Block("value!^ well_known_id", at_least=1),
                "certificates": Block("cert_alias!", at_most=99),
            },
        ),
        {
            "client_type": "confidential|public|trusted",
            "name": r"[A-Za-z0-9_]+",
            "idcs_endpoint": "https://.+",
        },
    ),
    "oci_identity_domains_identity_propagation_trust": Resource(
        "identitypropagationtrust",
        Block(
            "idcs_endpoint!^ schemas!:list name!^ issuer! type! description active:bool allow_impersonation:bool"
            " client_claim_name client_claim_values:list clock_skew_seconds:number impersonating_resource"
            " oauth_clients:list public_key_endpoint subject_claim_name subject_mapping_attribute subject_type"
            " claim_propagations:list attribute_sets:list attributes id* ocid* domain_ocid*",
            {
                "claim_validations": Block("name!^ value!", at_most=99),
                "impersonation_service_users": Block("rule! value!", at_most=99),
            },
        ),
        {
            "type": "JWT|SAML|SPNEGO|AWS|X509",
            "subject_type": "User|App|Resource",
            "idcs_endpoint": "https://.+",
        },
    ),
    "oci_identity_domains_user": Resource(
        "user",
        Block(
            "idcs_endpoint!^ schemas!:list user_name! description display_name attribute_sets:list id* ocid*",
            {"urnietfparamsscimschemasoracleidcsextensionuser_user": Block("service_user:bool")},
        ),
    ),
    "oci_identity_policy": Resource(
        "policy", Block(f"compartment_id!^ name!^ description! statements!:list version_date id* {_TAGS}")
    ),
    "oci_functions_application": Resource(
        "fnapp",
        Block(
            "compartment_id! display_name!^ subnet_ids!^:list config:map network_security_group_ids:list shape^"
            f" syslog_url id* {_TAGS}",
            {
                "image_policy_config": Block(
                    "is_policy_enabled!:bool", {"key_details": Block("kms_key_id!", at_most=99)}
                ),
                "trace_config": Block("domain_id is_enabled:bool"),
            },
        ),
    ),
    "oci_functions_function": Resource(
        "fnfunc",
        Block(
            "application_id! display_name! memory_in_mbs! config:map detached_mode_timeout_in_seconds:number image"
            f" image_digest timeout_in_seconds:number id* invoke_endpoint* {_TAGS}",
            {
                "failure_destination": Block("kind! channel_id queue_id stream_id topic_id"),
                "success_destination": Block("kind! channel_id queue_id stream_id topic_id"),
                "provisioned_concurrency_config": Block("strategy! count:number"),
                "trace_config": Block("is_enabled:bool"),
            },
        ),
        {
            "memory_in_mbs": "128|256|512|1024|2048|3072",
            "timeout_in_seconds": "[1-9]|[1-9][0-9]|[12][0-9][0-9]|300",
            "detached_mode_timeout_in_seconds": "[5-9]|[1-9][0-9]{1,2}|[12][0-9]{3}|3[0-5][0-9]{2}|3600",
        },
    ),
    "oci_resource_scheduler_schedule": Resource(
        "resourceschedule",
        Block(
            "action! compartment_id! recurrence_details! recurrence_type! description display_name local_time_zone"
            f" state time_ends time_starts id* {_TAGS}",
            {
                "resources": Block(
                    "id! metadata:map",
                    {"parameters": Block("parameter_type! value:list", at_most=99)},
                    at_most=25,
                )
            },
        ),
        {
            "action": "START_RESOURCE|STOP_RESOURCE|BACKUP_RESOURCE",
            "recurrence_type": "CRON|ICAL",
            # At most once an hour, so the minute is one number.
            "recurrence_details": r"([0-9]|[1-5][0-9]) (\*|[0-9]{1,2}(,[0-9]{1,2})*) \* \* \*",
            "state": "ACTIVE|INACTIVE",
        },
    ),
    "oci_ons_notification_topic": Resource(
        "onstopic", Block(f"compartment_id! name!^ description id* topic_id* {_TAGS}")
    ),
    "oci_ons_subscription": Resource(
        "onssubscription", Block(f"compartment_id! endpoint! protocol! topic_id! delivery_policy id* {_TAGS}")
    ),
    "oci_monitoring_alarm": Resource(
        "alarm",
        Block(
            "compartment_id! destinations!:list display_name! is_enabled!:bool metric_compartment_id! namespace! query!"
            " severity! alarm_summary body evaluation_slack_duration is_notifications_per_metric_dimension_enabled:bool"
            " message_format metric_compartment_id_in_subtree:bool notification_title notification_version"
            f" pending_duration repeat_notification_duration resolution resource_group rule_name id* {_TAGS}"
        ),
        {
            "severity": "CRITICAL|ERROR|WARNING|INFO",
            # From one minute to one hour.
            "pending_duration": "PT([1-9]|[1-5][0-9]|60)M",
            "query": r"\w+\[([1-9]|[1-5][0-9]|60)m\]\{.+\}\..+|\w+\[([1-9]|1[0-9]|2[0-4])h\]\{.+\}\..+",
        },
    ),
    "oci_logging_log_group": Resource(
        "loggroup", Block(f"compartment_id! display_name! description id* {_TAGS}")
    ),
    "oci_logging_log": Resource(
        "log",
        Block(
            f"display_name! log_group_id! log_type! is_enabled:bool retention_duration:number id* {_TAGS}",
            {
                "configuration": Block(
                    "compartment_id",
                    {"source": Block("category! resource! service! source_type! parameters:map", at_least=1)},
                )
            },
        ),
        {"log_type": "CUSTOM|SERVICE"},
    ),
}


@dataclass(frozen=True, slots=True)
class DataSource:
    """A type of data source.

    Attributes:
        of: The type of resource that it looks up.
        block: Its arguments and what it returns.
        by: The argument with the OCID; None: by name, or a list.
        columns: What a row has, if it returns a list of what is in a compartment.
    """

    of: str
    block: Block
    by: str | None = None
    columns: tuple[str, ...] = ()

    @property
    def rows(self) -> str:
        """The argument with the rows."""
        (name,) = [a.name for a in self.block.arguments if a.kind == "rows"]
        return name


DATA_SOURCES: Mapping[str, DataSource] = {
    "oci_identity_users": DataSource(
        "oci_identity_user",
        Block("compartment_id! name state users*:rows"),
        columns=("id", "name", "state"),
    ),
    "oci_identity_api_keys": DataSource(
        "oci_identity_api_key",
        Block("user_id! api_keys*:rows"),
        columns=("id", "fingerprint", "key_value", "state"),
    ),
    "oci_identity_compartments": DataSource(
        "oci_identity_compartment",
        Block("compartment_id! compartment_id_in_subtree:bool access_level name state compartments*:rows"),
        columns=("id", "compartment_id", "name", "description", "state"),
    ),
    "oci_vault_secrets": DataSource(
        "oci_vault_secret",
        Block("compartment_id! name state vault_id secrets*:rows"),
        columns=("id", "compartment_id", "secret_name", "vault_id", "state"),
    ),
    "oci_vault_secret": DataSource(
        "oci_vault_secret", Block("secret_id! compartment_id* secret_name* vault_id*"), by="secret_id"
    ),
    "oci_identity_domains_identity_propagation_trust": DataSource(
        "oci_identity_domains_identity_propagation_trust",
        Block(
            "idcs_endpoint! identity_propagation_trust_id! active*:bool issuer* impersonating_resource*"
            " client_claim_name* client_claim_values*:list oauth_clients*:list domain_ocid*"
        ),
        by="identity_propagation_trust_id",
    ),
    "oci_kms_vault": DataSource(
        "oci_kms_vault",
        Block("vault_id! compartment_id* management_endpoint* crypto_endpoint*"),
        by="vault_id",
    ),
    "oci_kms_key": DataSource(
        "oci_kms_key",
        Block(
            "key_id! management_endpoint! compartment_id* current_key_version* protection_mode* key_shape*:rows"
        ),
        by="key_id",
    ),
    "oci_objectstorage_bucket": DataSource(
        "oci_objectstorage_bucket",
        Block("name! namespace! compartment_id* access_type* versioning* retention_rules*:rows"),
    ),
    "oci_ons_notification_topic": DataSource(
        "oci_ons_notification_topic", Block("topic_id! compartment_id* name*"), by="topic_id"
    ),
}
