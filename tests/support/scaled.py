"""A plan with other sections, or with another number of credentials."""

from lockstep.plan.credentials import CredentialSection
from lockstep.plan.model import Plan


def with_sections(plan: Plan, **sections: object) -> Plan:
    """The plan with other sections, from which all is derived again."""
    own = {name: getattr(plan, name) for name in Plan.model_fields}
    return Plan.model_construct(**{**own, **sections})


def scaled(plan: Plan, count: int) -> Plan:
    """The plan with so many credentials: its own, repeated under other names."""
    own = plan.credential_sections
    sections = tuple(_copy(own[i % len(own)], i) for i in range(count))
    return with_sections(plan, credential_sections=sections)


def _copy(section: CredentialSection, number: int) -> CredentialSection:
    suffix = f"_{number:05}"
    names = section.secret_names
    return section.model_copy(
        update={
            "id": section.id + suffix,
            "username": section.username + suffix,
            "alternates": section.alternates and tuple(a + suffix for a in section.alternates),
            "secret": names.app_user + suffix,
            "connection_secret": names.connection_blob + suffix,
        }
    )
