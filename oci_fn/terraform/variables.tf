variable "tenancy_ocid" {
  description = "The tenancy; Resource Manager fills it in."
  type        = string

  validation {
    condition     = startswith(var.tenancy_ocid, "ocid1.tenancy.")
    error_message = "tenancy_ocid: the OCID of a tenancy, as ocid1.tenancy.oc1..…"
  }
}

variable "home_region" {
  description = "The tenancy's home region, where identities are written; none: the plan's region."
  type        = string
  default     = null
}

variable "plan_file" {
  description = "What to rotate: lockstep.yaml, relative to the folder of these files."
  type        = string
  default     = "../../lockstep.yaml"

  validation {
    condition     = can(yamldecode(file(var.plan_file)))
    error_message = "plan_file: no such file, or no YAML; `lockstep plan check` says more."
  }
}

variable "name" {
  description = "Prefix of all names."
  type        = string
  default     = "lockstep"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,40}$", var.name))
    error_message = "name: a lower-case letter, then up to 40 lower-case letters, digits and hyphens."
  }
}

variable "key_protection" {
  description = "Where the encryption keys live: HSM, or SOFTWARE, which costs nothing."
  type        = string
  default     = "HSM"

  validation {
    condition     = contains(["HSM", "SOFTWARE"], var.key_protection)
    error_message = "key_protection: HSM or SOFTWARE."
  }
}

variable "aws_runner_public_key" {
  description = "PEM of the public half of the API key with which AWS's runner signs; none: upload it by hand."
  type        = string
  default     = null

  validation {
    condition     = var.aws_runner_public_key == null || can(regex("^-----BEGIN PUBLIC KEY-----", var.aws_runner_public_key))
    error_message = "aws_runner_public_key: PEM that begins with -----BEGIN PUBLIC KEY-----; never the private half."
  }
}

variable "aws_runner_email" {
  description = "Mail address of that user, where the identity domain asks for one."
  type        = string
  default     = null
}

variable "image" {
  description = "The function's image in the region's registry; empty: no runner in OCI, everything else stands."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^$|^[a-z0-9.-]+\\.ocir\\.io/[^@ ]+:[A-Za-z0-9_.-]+$", var.image))
    error_message = "image: as fra.ocir.io/<namespace>/lockstep:1.0.0, with a tag; the digest goes into image_digest."
  }
}

variable "image_digest" {
  description = "Pins the image, so that a tag that moves changes nothing; none: what the tag names at deployment."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^sha256:[0-9a-f]{64}$", coalesce(var.image_digest, "sha256:${sha256("")}")))
    error_message = "image_digest: sha256: and 64 hexadecimal digits."
  }
}

variable "subnet_ids" {
  description = "Where the function runs: a way to the databases, to OCI's services and to AWS."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.subnet_ids : startswith(id, "ocid1.subnet.")])
    error_message = "subnet_ids: OCIDs of subnets, as ocid1.subnet.oc1.…"
  }
}

variable "network_security_group_ids" {
  description = "Of the function's network interface."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.network_security_group_ids : startswith(id, "ocid1.networksecuritygroup.")])
    error_message = "network_security_group_ids: OCIDs, as ocid1.networksecuritygroup.oc1.…"
  }
}

variable "memory_in_mbs" {
  description = "Of the function; with it comes its share of a processor."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 3072], var.memory_in_mbs)
    error_message = "memory_in_mbs: 256, 512, 1024, 2048 or 3072."
  }
}

variable "standby_offset_minutes" {
  description = "How long after midnight UTC the standby's first trigger comes; none: half an interval."
  type        = number
  default     = null

  validation {
    condition = alltrue([
      for minutes in var.standby_offset_minutes[*] : minutes >= 0 && minutes < 1440 && floor(minutes) == minutes
    ])
    error_message = "standby_offset_minutes: a whole number from 0 to 1439."
  }
}

variable "paused" {
  description = "Whether the standby's schedules rest, for maintenance."
  type        = bool
  default     = false
}

variable "log_retention_days" {
  description = "How long the function's log is kept."
  type        = number
  default     = 90

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180], var.log_retention_days)
    error_message = "log_retention_days: 30, 60, 90, 120, 150 or 180."
  }
}

variable "alarm_email" {
  description = "Who hears of alarms and of failed runs; none: subscribe to the topic by hand."
  type        = string
  default     = null
}
