# What exists already is adopted: Terraform uses it and changes nothing about it. What is not named is made.

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

variable "adopt_plan_bucket" {
  description = "Whether the bucket of the published plan exists: that of the audit log in the plan, with -plans at its end."
  type        = bool
  default     = false
}

variable "adopt_audit_bucket" {
  description = "Whether the audit bucket that the plan names exists."
  type        = bool
  default     = false
}

variable "adopt_digest_bucket" {
  description = "Whether the bucket of the digests exists: that of the audit log in the plan, with -digests at its end."
  type        = bool
  default     = false
}

variable "adopted_secrets" {
  description = "Secrets that exist: the OCID by the name in Vault, such as {\"lockstep.admin.orders\" = \"ocid1.vaultsecret…\"}. Their contents stay."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for id in values(var.adopted_secrets) : startswith(id, "ocid1.vaultsecret.")])
    error_message = "adopted_secrets must give OCIDs of secrets, such as ocid1.vaultsecret.oc1.…"
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

variable "function_dynamic_group_ocid" {
  description = "An existing dynamic group that the functions are in which rotate and look."
  type        = string
  default     = null

  validation {
    condition     = var.function_dynamic_group_ocid == null || startswith(coalesce(var.function_dynamic_group_ocid, "-"), "ocid1.dynamicgroup.")
    error_message = "function_dynamic_group_ocid must be an OCID, such as ocid1.dynamicgroup.oc1.…"
  }
}

variable "digest_dynamic_group_ocid" {
  description = "An existing dynamic group that the function is in which makes digests, and no other."
  type        = string
  default     = null

  validation {
    condition     = var.digest_dynamic_group_ocid == null || startswith(coalesce(var.digest_dynamic_group_ocid, "-"), "ocid1.dynamicgroup.")
    error_message = "digest_dynamic_group_ocid must be an OCID, such as ocid1.dynamicgroup.oc1.…"
  }
}

variable "schedules_dynamic_group_ocid" {
  description = "An existing dynamic group that the schedules of Resource Scheduler are in."
  type        = string
  default     = null

  validation {
    condition     = var.schedules_dynamic_group_ocid == null || startswith(coalesce(var.schedules_dynamic_group_ocid, "-"), "ocid1.dynamicgroup.")
    error_message = "schedules_dynamic_group_ocid must be an OCID, such as ocid1.dynamicgroup.oc1.…"
  }
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

variable "log_group_ocid" {
  description = "An existing log group."
  type        = string
  default     = null

  validation {
    condition     = var.log_group_ocid == null || startswith(coalesce(var.log_group_ocid, "-"), "ocid1.loggroup.")
    error_message = "log_group_ocid must be an OCID, such as ocid1.loggroup.oc1.…"
  }
}
