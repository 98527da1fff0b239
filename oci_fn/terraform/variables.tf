variable "tenancy_ocid" {
  description = "The OCID of the tenancy. Resource Manager fills it in."
  type        = string

  validation {
    condition     = startswith(var.tenancy_ocid, "ocid1.tenancy.")
    error_message = "tenancy_ocid must be the OCID of a tenancy, such as ocid1.tenancy.oc1..…"
  }
}

variable "home_region" {
  description = "The home region of the tenancy, where users, groups and policies are created. Default: the region in the plan."
  type        = string
  default     = null
}

variable "plan_file" {
  description = "The plan file lockstep.yaml, relative to the folder of these files."
  type        = string
  default     = "../../lockstep.yaml"

  validation {
    condition     = can(yamldecode(file(var.plan_file)))
    error_message = "plan_file does not exist or is not valid YAML. Run `lockstep check` for details."
  }

  validation {
    condition = length(
      regexall("(^|[^$])[$][{]", try(jsonencode(yamldecode(file(var.plan_file))), ""))
    ) == 0
    error_message = "plan_file has variables. Write what they come to with `lockstep plan render`, and name that file."
  }
}

variable "name" {
  description = "The prefix of all names."
  type        = string
  default     = "lockstep"

  validation {
    condition     = can(regex("^[A-Za-z][A-Za-z0-9-]{0,40}$", var.name))
    error_message = "name must be a letter, followed by up to 40 letters, digits and hyphens."
  }
}

variable "key_protection" {
  description = "The protection mode of the encryption keys: HSM, or SOFTWARE, which is free of charge."
  type        = string
  default     = "HSM"

  validation {
    condition     = contains(["HSM", "SOFTWARE"], var.key_protection)
    error_message = "key_protection must be HSM or SOFTWARE."
  }
}

variable "image" {
  description = "The image of the function in the registry of the region. If it is empty, everything but the OCI runner is created."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^$|^[a-z0-9.-]+\\.ocir\\.io/[^@ ]+:[A-Za-z0-9_.-]+$", var.image))
    error_message = "image must have a tag, such as fra.ocir.io/<namespace>/lockstep:1.0.0. Put the digest into image_digest."
  }
}

variable "image_digest" {
  description = "The digest of the image, which pins it. Default: the image that the tag names at deployment."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^sha256:[0-9a-f]{64}$", coalesce(var.image_digest, "sha256:${sha256("")}")))
    error_message = "image_digest must be sha256: followed by 64 hexadecimal digits."
  }
}

variable "plan_digest" {
  description = "The digest of the published plan that the function reads, as `lockstep plan publish --digest` prints it. `make deploy-oci` sets it. It is needed with an image."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^[0-9a-f]{64}$", coalesce(var.plan_digest, sha256(""))))
    error_message = "plan_digest must be 64 hexadecimal digits."
  }
}

variable "subnet_ids" {
  description = "The subnets of the function. It must be able to reach the databases, the services of OCI, and AWS."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.subnet_ids : startswith(id, "ocid1.subnet.")])
    error_message = "subnet_ids must be OCIDs of subnets, such as ocid1.subnet.oc1.…"
  }
}

variable "network_security_group_ids" {
  description = "The network security groups of the function."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.network_security_group_ids : startswith(id, "ocid1.networksecuritygroup.")])
    error_message = "network_security_group_ids must be OCIDs, such as ocid1.networksecuritygroup.oc1.…"
  }
}

variable "memory_in_mbs" {
  description = "The memory of the function in MB. The share of a processor grows with it."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 3072], var.memory_in_mbs)
    error_message = "memory_in_mbs must be 256, 512, 1024, 2048 or 3072."
  }
}

variable "paused" {
  description = "Whether the schedules of the standby are inactive: on the first day until its last step, and for maintenance."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "The number of days for which the log of the function is kept."
  type        = number
  default     = 90

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180], var.log_retention_days)
    error_message = "log_retention_days must be 30, 60, 90, 120, 150 or 180."
  }
}

variable "alarm_email" {
  description = "The e-mail address that gets alarms and failed runs. If it is not set, subscribe to the topic by hand."
  type        = string
  default     = null
}

variable "runbook_url" {
  description = "Where your people read docs/alarms.md: the text of each alarm links to it."
  type        = string
  default     = "docs/alarms.md"
}

# The protection of the audit log.

variable "audit_versions" {
  description = "Whether the buckets of the audit log and of its digests keep versions instead of a retention rule, since OCI takes one of both: for a trial, which is then removed more easily. With the rule nobody can delete or replace an entry that is younger than audit.aws.retention in the plan says. Choose before the first apply."
  type        = bool
  default     = false
}

variable "audit_retention_locked_from" {
  description = "The time from which the retention rules are locked, at least 14 days ahead, such as 2030-01-31T00:00:00Z: until then they can be removed, and never after. Default: they are not locked, and a break-glass group can remove them."
  type        = string
  default     = null

  validation {
    condition     = var.audit_retention_locked_from == null || can(timeadd(var.audit_retention_locked_from, "0s"))
    error_message = "audit_retention_locked_from must be a time such as 2030-01-31T00:00:00Z."
  }
}

variable "audit_break_glass_group_ocid" {
  description = "The group that may delete entries and digests of the audit log, and change its versions, life cycle and retention. Default: no policy of Lockstep lets anybody."
  type        = string
  default     = null

  validation {
    condition     = var.audit_break_glass_group_ocid == null || startswith(coalesce(var.audit_break_glass_group_ocid, "-"), "ocid1.group.")
    error_message = "audit_break_glass_group_ocid must be the OCID of a group, such as ocid1.group.oc1..…"
  }
}

variable "audit_deny_policies" {
  description = "Whether to deny everybody else what the break-glass group may, and all but its function to write to each bucket, whatever other policies allow. The tenancy must have deny policies enabled. Only the tenancy's group Administrators, and the administrator who enabled them, may write them, so one of these must deploy."
  type        = bool
  default     = false
}

# Conventions of an estate.

variable "freeform_tags" {
  description = "Free-form tags of everything that is made. `lockstep-stack` is added."
  type        = map(string)
  default     = {}
}

variable "defined_tags" {
  description = "Defined tags of everything that is made, such as {\"Finance.CostCenter\" = \"42\"}."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.defined_tags) : can(regex("^[^.]+\\.[^.]+$", key))])
    error_message = "defined_tags must be named by namespace and key, such as Finance.CostCenter."
  }
}

variable "ignored_defined_tags" {
  description = "Defined tags that others set, such as a tenancy's defaults (Oracle-Tags.CreatedBy): Terraform leaves them alone."
  type        = list(string)
  default     = []
}

variable "identity_delay" {
  description = "How long to wait until a new compartment or policy is known everywhere."
  type        = string
  default     = "60s"

  validation {
    condition     = can(regex("^[0-9]+(s|m)$", var.identity_delay))
    error_message = "identity_delay must be a number of seconds or minutes, such as 60s."
  }
}

variable "shape" {
  description = "The processors of the function's application. The image must be for them."
  type        = string
  default     = "GENERIC_X86"

  validation {
    condition     = contains(["GENERIC_X86", "GENERIC_ARM", "GENERIC_X86_ARM"], var.shape)
    error_message = "shape must be GENERIC_X86, GENERIC_ARM or GENERIC_X86_ARM."
  }
}
