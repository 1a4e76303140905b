"""Reads a plan as `terraform show -json` prints it, from standard input.

usage: python plan.py made           the resources it makes, a line each, the pools of nodes, and how many resources
       python plan.py output NAME    the value of an output
"""

import json
import sys


def pool(resource):
    after = resource["change"]["after"]
    config = after["node_config"][0]
    if after["autoscaling"]:
        scale = after["autoscaling"][0]
        nodes = f"{scale['total_min_node_count']} to {scale['total_max_node_count']} nodes"
    else:
        nodes = f"{after['node_count']} node(s) in each of {len(after['node_locations'])} zone(s)"
    return f"pool {resource['index']}: {nodes}, {config['machine_type']}, {'spot' if config['spot'] else 'not spot'}"


def main():
    plan = json.load(sys.stdin)
    if sys.argv[1] == "output":
        print(plan["planned_values"]["outputs"][sys.argv[2]]["value"])
        return
    made = [it for it in plan["resource_changes"] if it["change"]["actions"] == ["create"]]
    print("\n".join(sorted(it["address"] for it in made)))
    print("\n".join(sorted(pool(it) for it in made if it["type"] == "google_container_node_pool")))
    print(f"{len(made)} resources")


if __name__ == "__main__":
    main()
