# Two compartments. The plan's compartment holds the rings and nothing else; everything else is in Lockstep's own one, which
# is made or adopted. So a permission for a compartment is as tight as one for each secret, and the policies have the same
# size for one credential and for a thousand. A policy covers the compartments below its own, so neither may be inside the
# rings' one.

resource "oci_identity_compartment" "own" {
  provider = oci.home
  count    = var.compartment_ocid == null ? 1 : 0

  compartment_id = local.parent
  name           = var.name
  description    = local.description
  # The provider takes a compartment of this name that exists there, and never deletes it.
  enable_delete = false
  freeform_tags = local.freeform_tags
  defined_tags  = local.defined_tags

  lifecycle {
    precondition {
      condition     = !contains(local.above_parent, local.rings)
      error_message = "parent_compartment_ocid: it must not be the compartment of the rings (compartment_id in the plan), or below it."
    }

    precondition {
      condition = alltrue([
        for c in data.oci_identity_compartments.all.compartments : c.description == local.description
        if c.name == var.name && c.compartment_id == local.parent && c.state == "ACTIVE"
      ])
      error_message = "A compartment with the name ${var.name} exists there, and Lockstep has not made it. Choose another name, or adopt it with compartment_ocid."
    }
  }
}

# Other regions, and services, learn of a compartment or policy some seconds after the home region. The provider repeats
# what is refused for that reason only if the same provider configuration has made the change, and `oci.home` is another.
resource "time_sleep" "compartment" {
  create_duration = var.identity_delay
  triggers        = { compartment = local.own }

  depends_on = [oci_identity_compartment.own]
}

data "oci_identity_compartments" "all" {
  compartment_id            = var.tenancy_ocid
  compartment_id_in_subtree = true
  access_level              = "ANY"
}

data "oci_vault_secrets" "rings" {
  compartment_id = local.rings
}

data "oci_vault_secrets" "own" {
  compartment_id = local.own
}

locals {
  description = "Lockstep: keys, logins of the rotation user, audit log and function. The rings are in another compartment."

  rings  = local.vault.compartment_id
  parent = coalesce(var.parent_compartment_ocid, var.tenancy_ocid)
  own    = one(concat(oci_identity_compartment.own[*].id, var.compartment_ocid[*]))
  # For what is made in it: known only once other regions know it.
  own_ready = time_sleep.compartment.triggers.compartment

  # A tenancy has six levels of compartments.
  compartment_above = { for c in data.oci_identity_compartments.all.compartments : c.id => c.compartment_id }
  above_parent      = [local.parent, local.parent_2, local.parent_3, local.parent_4, local.parent_5, local.parent_6]
  parent_2          = lookup(local.compartment_above, local.parent, "")
  parent_3          = lookup(local.compartment_above, local.parent_2, "")
  parent_4          = lookup(local.compartment_above, local.parent_3, "")
  parent_5          = lookup(local.compartment_above, local.parent_4, "")
  parent_6          = lookup(local.compartment_above, local.parent_5, "")
  above_own         = [local.own, local.own_2, local.own_3, local.own_4, local.own_5, local.own_6]
  own_2             = lookup(local.compartment_above, local.own, "")
  own_3             = lookup(local.compartment_above, local.own_2, "")
  own_4             = lookup(local.compartment_above, local.own_3, "")
  own_5             = lookup(local.compartment_above, local.own_4, "")
  own_6             = lookup(local.compartment_above, local.own_5, "")

  # Secrets that the runners could reach but that are not Lockstep's. Own secrets that an earlier version has put beside
  # the rings are moved by the same apply.
  own_names = concat(tolist(local.by_hand), tolist(local.mac_secrets), var.retired_secrets)
  strangers_in_rings = [
    for s in data.oci_vault_secrets.rings.secrets : s.secret_name
    if s.state == "ACTIVE" && (contains(concat(local.slot_names, local.own_names), s.secret_name) ? s.vault_id != local.vault_id : true)
  ]
  strangers_in_own = [
    for s in data.oci_vault_secrets.own.secrets : s.secret_name
    if s.state == "ACTIVE" && (contains(local.own_names, s.secret_name) ? s.vault_id != local.vault_id : true)
  ]

  # Null leaves the tags alone that the tenancy sets by default.
  freeform_tags = merge(var.freeform_tags, { lockstep-stack = var.name })
  defined_tags  = length(var.defined_tags) == 0 ? null : var.defined_tags
}
