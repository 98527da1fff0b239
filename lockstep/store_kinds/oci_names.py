"""The names of a plan's secrets in OCI Vault."""


def oci_name(name: str) -> str:
    """A secret's name as OCI takes it: letters, digits, hyphens, underscores and periods, no slash."""
    return name.replace("/", ".")


def slot_name(secret: str, slot: int) -> str:
    """The OCI secret that is a slot of a secret of the plan."""
    return f"{oci_name(secret)}.{slot}"
