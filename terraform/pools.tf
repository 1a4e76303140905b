# Three pools: what holds the cluster together, what keeps data, what can go and come back.

locals {
  pools = {
    # Operators, monitoring, control centers, DNS: takes whatever does not ask for another pool.
    system = {
      machine   = local.size.system.machine
      disk_gib  = 100
      spot      = false
      fixed     = null
      autoscale = { minimum = local.size.system.minimum, maximum = local.size.system.maximum, policy = "BALANCED" }
      tainted   = false
      surge     = { more = 1, fewer = 0 }
    }
    # Kafka, its controllers and HiveMQ: never spot, never scaled by a machine, and one node goes at a time.
    kafka = {
      machine   = local.size.kafka.machine
      disk_gib  = 100
      spot      = false
      fixed     = local.size.kafka.per_zone
      autoscale = null
      tainted   = true
      surge     = { more = 1, fewer = 0 }
    }
    # Our services: nothing is lost with a node, since what they had in hand is aborted and read again.
    stateless = {
      machine   = local.size.stateless.machine
      disk_gib  = 50
      spot      = var.spot
      fixed     = null
      autoscale = { minimum = local.size.stateless.minimum, maximum = local.size.stateless.maximum, policy = var.spot ? "ANY" : "BALANCED" }
      tainted   = true
      surge     = { more = 2, fewer = 0 }
    }
  }
}

resource "google_container_node_pool" "this" {
  for_each = local.pools

  name           = each.key
  cluster        = google_container_cluster.this.id
  node_locations = local.zones
  node_count     = each.value.fixed

  # Per zone; afterwards the autoscaler moves it.
  initial_node_count = each.value.autoscale == null ? null : ceil(each.value.autoscale.minimum / local.size.zones)

  dynamic "autoscaling" {
    for_each = each.value.autoscale[*]

    content {
      total_min_node_count = autoscaling.value.minimum
      total_max_node_count = autoscaling.value.maximum
      location_policy      = autoscaling.value.policy
    }
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  upgrade_settings {
    strategy        = "SURGE"
    max_surge       = each.value.surge.more
    max_unavailable = each.value.surge.fewer
  }

  node_config {
    machine_type    = each.value.machine
    spot            = each.value.spot
    disk_size_gb    = each.value.disk_gib
    disk_type       = "pd-balanced"
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.nodes.email
    oauth_scopes    = ["https://www.googleapis.com/auth/cloud-platform"]
    labels          = { "telltale.io/pool" = each.key }
    resource_labels = local.labels

    dynamic "taint" {
      for_each = each.value.tainted ? [each.key] : []

      content {
        key    = "telltale.io/pool"
        value  = taint.value
        effect = "NO_SCHEDULE"
      }
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }

    metadata = {
      disable-legacy-endpoints = "true"
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}
