# What a user gets wrong is refused before anything is planned, with a sentence that says what to write.

mock_provider "google" {}

variables {
  project = "my-fleet-4711"
}

run "a_size_that_is_none" {
  command         = plan
  expect_failures = [var.size]

  variables {
    size = "M"
  }
}

run "a_project_by_its_name" {
  command         = plan
  expect_failures = [var.project]

  variables {
    project = "My Fleet"
  }
}

run "a_zone_as_the_region" {
  command         = plan
  expect_failures = [var.region]

  variables {
    region = "europe-west1-b"
  }
}

run "a_zone_of_another_region" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    zones = ["us-central1-a"]
  }
}

run "two_zones" {
  command         = plan
  expect_failures = [var.zones]

  variables {
    size  = "L"
    zones = ["europe-west1-b", "europe-west1-c"]
  }
}

run "a_name_too_long_for_its_accounts" {
  command         = plan
  expect_failures = [var.name]

  variables {
    name = "telltale-of-the-whole-fleet"
  }
}

run "a_range_that_is_none" {
  command         = plan
  expect_failures = [var.ranges]

  variables {
    ranges = { pods = "10.68.0.0" }
  }
}

run "a_lake_that_is_deleted_before_it_is_cold" {
  command         = plan
  expect_failures = [var.lake_retention_days]

  variables {
    lake_retention_days = 30
  }
}

run "a_group_that_google_does_not_take" {
  command         = plan
  expect_failures = [var.security_group]

  variables {
    security_group = "fleet@example.com"
  }
}
