# What exists already is adopted: Terraform uses it and changes nothing about it. What is not named is made; what Lockstep has made
# before, `terraform import` takes back.

variable "compartment_ocid" {
  description = "The compartment of everything but the rings, which are alone in the plan's. Default: one with the name `name` is made. It must not be below the rings' compartment, and must hold no other secrets."
  type        = string
  default     = null

  validation {
    condition     = var.compartment_ocid == null || startswith(coalesce(var.compartment_ocid, "-"), "ocid1.compartment.")
    error_message = "compartment_ocid must be an OCID, such as ocid1.compartment.oc1.…"
  }
}

variable "parent_compartment_ocid" {
  description = "Where the compartment is made. Default: the tenancy."
  type        = string
  default     = null

  validation {
    condition     = var.parent_compartment_ocid == null || can(regex("^ocid1\\.(compartment|tenancy)\\.", var.parent_compartment_ocid))
    error_message = "parent_compartment_ocid must be the OCID of a compartment or of the tenancy."
  }
}

variable "vault_ocid" {
  description = "An existing vault. A vault has a price and a quota; stacks may share one."
  type        = string
  default     = null

  validation {
    condition     = var.vault_ocid == null || startswith(coalesce(var.vault_ocid, "-"), "ocid1.vault.")
    error_message = "vault_ocid must be an OCID, such as ocid1.vault.oc1.…"
  }
}

variable "secrets_key_ocid" {
  description = "An existing key of the vault, which encrypts the secrets."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_key_ocid == null || startswith(coalesce(var.secrets_key_ocid, "-"), "ocid1.key.")
    error_message = "secrets_key_ocid must be an OCID, such as ocid1.key.oc1.…"
  }
}

variable "audit_key_ocid" {
  description = "An existing key, which encrypts the audit bucket. Its owner must let Object Storage use it."
  type        = string
  default     = null

  validation {
    condition     = var.audit_key_ocid == null || startswith(coalesce(var.audit_key_ocid, "-"), "ocid1.key.")
    error_message = "audit_key_ocid must be an OCID, such as ocid1.key.oc1.…"
  }
}

variable "retired_slots" {
  description = "Slots of credentials that have left the plan, as long as they exist: their names in Vault."
  type        = list(string)
  default     = []
}

variable "retired_secrets" {
  description = "Secrets that an administrator has filled in and that the plan names no longer: their names in Vault. They stay as they are."
  type        = list(string)
  default     = []
}

variable "topic_ocid" {
  description = "An existing topic of Notifications, for alarms and failed runs."
  type        = string
  default     = null

  validation {
    condition     = var.topic_ocid == null || startswith(coalesce(var.topic_ocid, "-"), "ocid1.onstopic.")
    error_message = "topic_ocid must be an OCID, such as ocid1.onstopic.oc1.…"
  }
}
