# What each size makes, and that what must hold for all of them does.

mock_provider "google" {}

variables {
  project = "my-fleet-4711"
}

run "s_is_one_zone_and_one_broker" {
  command = plan

  assert {
    condition     = google_container_cluster.this.location == "europe-west1-b" && google_container_cluster.this.node_locations == null
    error_message = "size S is a zonal cluster"
  }

  assert {
    condition     = yamldecode(output.helm_values_platform).kafka.brokers == 1
    error_message = "one broker is what Confluent's developer licence is for"
  }

  assert {
    condition     = google_container_node_pool.this["kafka"].node_count == 1
    error_message = "one broker takes one node"
  }
}

run "xl_is_three_zones" {
  command = plan

  variables {
    size  = "XL"
    zones = ["europe-west1-d", "europe-west1-b", "europe-west1-c"]
  }

  assert {
    condition     = google_container_cluster.this.location == "europe-west1" && length(google_container_cluster.this.node_locations) == 3
    error_message = "size XL is a regional cluster in three zones"
  }

  assert {
    condition     = yamldecode(output.helm_values_platform).kafka.brokers == 3 * google_container_node_pool.this["kafka"].node_count
    error_message = "a node for each broker, the same number in each zone"
  }

  assert {
    condition     = yamldecode(output.helm_values_platform).kafka.controllers == 3
    error_message = "three controllers"
  }

  assert {
    condition     = yamldecode(output.helm_values_platform).topics.partitions == output.holds.partitions
    error_message = "the charts get the partitions that the table promises"
  }
}

run "spot_is_for_the_services_alone" {
  command = plan

  variables {
    spot = true
    size = "L"
  }

  assert {
    condition     = [for name, pool in google_container_node_pool.this : name if pool.node_config[0].spot] == ["stateless"]
    error_message = "only the stateless pool may be taken away"
  }

  assert {
    condition     = length(google_container_node_pool.this["kafka"].autoscaling) == 0
    error_message = "nothing scales Kafka's nodes by itself"
  }
}

run "nothing_is_public" {
  command = plan

  assert {
    condition     = google_container_cluster.this.private_cluster_config[0].enable_private_nodes
    error_message = "nodes have no public addresses"
  }

  assert {
    condition     = !google_container_cluster.this.control_plane_endpoints_config[0].ip_endpoints_config[0].enabled
    error_message = "the control plane has no address, only its DNS name"
  }

  assert {
    condition     = google_storage_bucket.this.public_access_prevention == "enforced" && google_storage_bucket.this.uniform_bucket_level_access
    error_message = "the bucket cannot be made public"
  }

  assert {
    condition     = google_container_cluster.this.deletion_protection && !google_storage_bucket.this.force_destroy
    error_message = "what holds data is protected unless asked otherwise"
  }
}

run "identities_have_least_rights" {
  command = plan

  assert {
    condition     = google_project_iam_member.nodes.role == "roles/container.defaultNodeServiceAccount"
    error_message = "nodes may write logs and metrics, no more"
  }

  assert {
    condition = alltrue([
      for name, it in google_service_account_iam_member.pods :
      can(regex("^serviceAccount:my-fleet-4711\\.svc\\.id\\.goog\\[telltale/telltale-[a-z]+\\]$", it.member))
    ])
    error_message = "an identity is bound to one Kubernetes service account"
  }

  assert {
    condition     = toset([for it in google_storage_managed_folder_iam_member.of : it.role]) == toset(["roles/storage.objectUser"])
    error_message = "workloads read and write objects; they give no rights on them"
  }

  assert {
    condition     = alltrue([for name, it in google_storage_managed_folder_iam_member.of : it.managed_folder == "${name}/"])
    error_message = "a workload has its own folder only"
  }
}

run "what_is_asked_for_is_made" {
  command = plan

  variables {
    flow_logs      = true
    security_group = "gke-security-groups@example.com"
  }

  assert {
    condition     = google_compute_subnetwork.nodes.log_config[0].flow_sampling == 0.1
    error_message = "a tenth of the connections is logged"
  }

  assert {
    condition     = google_container_cluster.this.authenticator_groups_config[0].security_group == "gke-security-groups@example.com"
    error_message = "groups may be given rights"
  }
}
