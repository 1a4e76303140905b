# What a user decides. Only `project` has no default.

variable "project" {
  description = "Id of the Google Cloud project that pays, for example my-fleet-4711."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project is the project's id, not its name or number: 6 to 30 lower-case letters, digits and hyphens, beginning with a letter. `gcloud projects list` shows it."
  }
}

variable "size" {
  description = "How large a fleet the cluster holds: S, L, XL or XXL; README.md has the table."
  type        = string
  default     = "S"
  nullable    = false

  validation {
    condition     = contains(["S", "L", "XL", "XXL"], var.size)
    error_message = "size is one of S (25 cars, one broker), L (10,000 cars), XL (100,000 cars) and XXL (1,000,000 cars), in capitals."
  }
}

variable "name" {
  description = "Name of the cluster, and the beginning of every other name."
  type        = string
  default     = "telltale"
  nullable    = false

  # Names of service accounts end at 30 characters, and the longest suffix here is 10 long.
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "name is 3 to 20 lower-case letters, digits and hyphens, and begins with a letter."
  }
}

variable "region" {
  description = "Region of everything, for example europe-west1."
  type        = string
  default     = "europe-west1"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region is the name of a region such as europe-west1; a zone such as europe-west1-b belongs into zones."
  }
}

variable "zones" {
  description = "Zones of the nodes: one for size S, three for the others. Empty takes the region's -b, or -b, -c and -d."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for it in var.zones : startswith(it, "${var.region}-")])
    error_message = "every zone lies in the region ${var.region}: ${var.region}-b, for example."
  }

  validation {
    condition     = length(var.zones) == length(distinct(var.zones))
    error_message = "a zone is named twice."
  }

  # Three copies of a partition in two zones would lose the majority with one of them.
  validation {
    condition     = length(var.zones) == 0 || length(var.zones) == (var.size == "S" ? 1 : 3)
    error_message = "size S takes one zone, the other sizes take three."
  }
}

variable "spot" {
  description = "Whether the services' nodes are spot nodes: about a third of the price, taken away at 30 seconds' notice. Kafka never is."
  type        = bool
  default     = false
  nullable    = false
}

variable "release_channel" {
  description = "How early Google upgrades the cluster: RAPID, REGULAR or STABLE."
  type        = string
  default     = "REGULAR"
  nullable    = false

  validation {
    condition     = contains(["RAPID", "REGULAR", "STABLE"], var.release_channel)
    error_message = "release_channel is RAPID, REGULAR or STABLE."
  }
}

variable "maintenance_start" {
  description = "First window in which Google may upgrade, in UTC; it returns each Saturday and Sunday and is six hours long."
  type        = string
  default     = "2026-01-03T01:00:00Z"
  nullable    = false

  validation {
    condition     = can(timeadd(var.maintenance_start, "6h"))
    error_message = "maintenance_start is a time such as 2026-01-03T01:00:00Z."
  }
}

variable "ranges" {
  description = "Addresses of nodes, pods and services; they must not overlap with networks that are to be joined later."
  type = object({
    nodes    = optional(string, "10.64.0.0/20")
    pods     = optional(string, "10.68.0.0/14")
    services = optional(string, "10.64.16.0/20")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for it in values(var.ranges) : can(cidrnetmask(it))])
    error_message = "each range is an IPv4 range such as 10.64.0.0/20."
  }
}

variable "flow_logs" {
  description = "Whether a tenth of the network's connections are logged; they are paid for by the gigabyte."
  type        = bool
  default     = false
  nullable    = false
}

variable "security_group" {
  description = "Google group whose member groups may be given rights in the cluster, such as gke-security-groups@example.com; empty for none."
  type        = string
  default     = ""
  nullable    = false

  # Google takes no other name.
  validation {
    condition     = var.security_group == "" || startswith(var.security_group, "gke-security-groups@")
    error_message = "security_group is gke-security-groups@ and your domain: Google takes no other name."
  }
}

variable "lake_retention_days" {
  description = "Days after which objects below lake/ are deleted."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = var.lake_retention_days >= 31 && floor(var.lake_retention_days) == var.lake_retention_days
    error_message = "lake_retention_days is a whole number of days, at least 31: objects go to a cheaper class after 30."
  }
}

variable "namespace" {
  description = "Kubernetes namespace of our services: the identities are bound to its service accounts."
  type        = string
  default     = "telltale"
  nullable    = false
}

variable "deletion_protection" {
  description = "Whether `terraform destroy` refuses to take the cluster away, and the bucket while anything is in it."
  type        = bool
  default     = true
  nullable    = false
}

variable "labels" {
  description = "Labels on everything, for example { team = \"fleet\" }."
  type        = map(string)
  default     = {}
  nullable    = false
}
