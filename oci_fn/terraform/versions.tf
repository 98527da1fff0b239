terraform {
  # Resource Manager runs Terraform 1.5.
  required_version = ">= 1.5.0, < 2.0.0"

  required_providers {
    oci = {
      source = "oracle/oci"
      # 8.18 is the first version with the resource types of identity propagation trusts.
      version = ">= 8.18.0, < 9.0.0"
    }
    time = {
      source  = "hashicorp/time"
      version = "~> 0.12"
    }
  }
}

provider "oci" {
  region              = local.vault.region
  ignore_defined_tags = var.ignored_defined_tags
}

# Users, groups and policies can only be created in the home region of the tenancy.
provider "oci" {
  alias  = "home"
  region = coalesce(var.home_region, local.vault.region)

  ignore_defined_tags = var.ignored_defined_tags
}
