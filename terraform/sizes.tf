# What each size holds. README.md shows the same table with its reasons; tests/sizes.tftest.hcl compares the important parts.

locals {
  # Nodes are per zone where they are fixed (kafka), and in all where they grow (system, stateless). `broker` and `mqtt` are what
  # one of each asks for; both and a controller must fit on a node of the pool kafka.
  sizes = {
    S = {
      cars       = 25
      partitions = 6
      zones      = 1
      brokers    = 1
      mqtt_nodes = 1
      disk_gib   = 50
      broker     = { cpu = "1", memory = "4Gi" }
      mqtt       = { cpu = "1", memory = "2Gi" }
      system     = { machine = "e2-standard-4", minimum = 1, maximum = 2 }
      kafka      = { machine = "e2-standard-4", per_zone = 1 }
      stateless  = { machine = "e2-standard-4", minimum = 1, maximum = 3 }
    }
    L = {
      cars       = 10000
      partitions = 12
      zones      = 3
      brokers    = 3
      mqtt_nodes = 3
      disk_gib   = 1000
      broker     = { cpu = "1500m", memory = "6Gi" }
      mqtt       = { cpu = "1500m", memory = "4Gi" }
      system     = { machine = "e2-standard-4", minimum = 3, maximum = 6 }
      kafka      = { machine = "n2-standard-4", per_zone = 1 }
      stateless  = { machine = "e2-standard-4", minimum = 3, maximum = 6 }
    }
    XL = {
      cars       = 100000
      partitions = 48
      zones      = 3
      brokers    = 6
      mqtt_nodes = 6
      disk_gib   = 4000
      broker     = { cpu = "3", memory = "12Gi" }
      mqtt       = { cpu = "3", memory = "8Gi" }
      system     = { machine = "e2-standard-4", minimum = 3, maximum = 6 }
      kafka      = { machine = "n2-standard-8", per_zone = 2 }
      stateless  = { machine = "e2-standard-8", minimum = 3, maximum = 9 }
    }
    XXL = {
      cars       = 1000000
      partitions = 192
      zones      = 3
      brokers    = 12
      mqtt_nodes = 12
      disk_gib   = 20000
      broker     = { cpu = "7", memory = "28Gi" }
      mqtt       = { cpu = "7", memory = "24Gi" }
      system     = { machine = "e2-standard-8", minimum = 3, maximum = 6 }
      kafka      = { machine = "n2-standard-16", per_zone = 4 }
      stateless  = { machine = "n2-standard-16", minimum = 3, maximum = 9 }
    }
  }

  size  = local.sizes[var.size]
  zones = length(var.zones) > 0 ? var.zones : [for it in slice(["b", "c", "d"], 0, local.size.zones) : "${var.region}-${it}"]

  labels = merge({ app = "telltale", cluster = var.name }, var.labels)

  # Google's services that the rest needs. They stay on when the cluster goes: others in the project may use them.
  services = ["artifactregistry", "cloudresourcemanager", "compute", "container", "iam", "storage"]
}

resource "google_project_service" "needed" {
  for_each = toset(local.services)

  service            = "${each.key}.googleapis.com"
  disable_on_destroy = false
}
