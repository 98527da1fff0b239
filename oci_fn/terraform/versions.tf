terraform {
  # Resource Manager runs Terraform 1.5, so nothing here needs more.
  required_version = ">= 1.5.0, < 2.0.0"

  required_providers {
    oci = {
      source = "oracle/oci"
      # Time-outs and destinations of detached calls.
      version = "~> 7.23"
    }
  }
}

provider "oci" {
  region = local.vault.region
}

# Identities are written in the tenancy's home region only.
provider "oci" {
  alias  = "home"
  region = coalesce(var.home_region, local.vault.region)
}
