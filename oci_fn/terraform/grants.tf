# The permissions that a rotation needs in Vault. docs/iam-oci.md explains each. Both runners have them.

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
    # A list request names no secret, so a condition on the secret would be false. A list shows names, never contents.
    ["to {SECRET_INSPECT} ${local.in_compartment}"],
    # One statement for each credential, because the length of a statement is limited.
    [
      for names in values(local.slots) : format(
        "to {%s} %s where any {%s}",
        local.ring_permissions,
        local.in_compartment,
        join(", ", [for name in names : "target.secret.id = '${oci_vault_secret.slot[name].id}'"]),
      )
    ],
  )

  # The secrets that the OCI runner only reads.
  read_ids = [for secret in concat(values(oci_vault_secret.by_hand), values(oci_vault_secret.mac)) : secret.id]
}
