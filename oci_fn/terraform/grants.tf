# What a rotation does in Vault, as docs/iam-oci.md explains it; both runners may do it.

locals {
  in_compartment = "in compartment id ${local.vault.compartment_id}"

  ring_permissions = join(", ", [
    "SECRET_READ",
    "SECRET_UPDATE",
    "SECRET_VERSION_INSPECT",
    "SECRET_VERSION_DELETE",
    "SECRET_BUNDLE_READ",
  ])

  ring_grants = concat(
    # A list names no secret, and a condition on what a request lacks is false. It shows names, never contents.
    ["to {SECRET_INSPECT} ${local.in_compartment}"],
    # One statement a credential keeps each within the length that a statement may have.
    [
      for names in values(local.slots) : format(
        "to {%s} %s where any {%s}",
        local.ring_permissions,
        local.in_compartment,
        join(", ", [for name in names : "target.secret.id = '${oci_vault_secret.slot[name].id}'"]),
      )
    ],
  )

  # By a list of secrets that the runner in OCI only reads.
  read_ids = [for secret in concat(values(oci_vault_secret.by_hand), values(oci_vault_secret.mac)) : secret.id]
}
