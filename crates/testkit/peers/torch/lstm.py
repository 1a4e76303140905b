"""One step of an LSTM's learning: PyTorch on one thread beside ours, in turns.

    lstm.py [--rounds 5] [--steps 150]    in the repository; our side is its bench `lstm`, by `make bench-kernels`

Both: sequences of ten readings of 18 sensors, a head that says the next reading, a robust loss, forward, backward, Adam. The figure
is the time of the median step by the number of its sequences.
"""

import argparse
import json
import os
import statistics
import subprocess
import time

import torch

SENSORS, READINGS = 18, 10
SHAPES = [(32, 256), (32, 32), (64, 256)]


def robust(error):
    return (((error * 2).square() + 1).sqrt() - 1).mean() * 0.25


def theirs(hidden, sequences, fused, steps):
    """Nanoseconds a sequence."""
    torch.manual_seed(0)
    cell, head = torch.nn.LSTM(SENSORS, hidden), torch.nn.Linear(hidden, SENSORS)
    adam = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=1e-6, fused=fused)
    inputs = torch.randn(READINGS, sequences, SENSORS)
    targets = torch.randn(READINGS, sequences, SENSORS)
    times = []
    for _ in range(steps):
        begun = time.perf_counter_ns()
        adam.zero_grad()
        loss = robust(head(cell(inputs)[0]) - targets)
        loss.backward()
        adam.step()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / sequences


def ours():
    """Nanoseconds a sequence, by (width of the state, sequences)."""
    subprocess.run(["make", "--no-print-directory", "bench-kernels", "ARGS=lstm::step"], check=True, stdout=subprocess.DEVNULL)
    with open(os.path.join(os.environ.get("CARGO_TARGET_DIR", "target"), "bench/kernels.json")) as file:
        kernels = {it["name"]: it["median_ns"] for it in json.load(file)["kernels"]}
    return {shape: kernels[f"lstm/step/{shape}"] / shape[1] for shape in SHAPES}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=150, help="PyTorch's steps in each round")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {shape: {"ours": [], "PyTorch": [], "PyTorch, fused Adam": []} for shape in SHAPES}
    for _ in range(arguments.rounds):
        mine = ours()
        for shape, sides in found.items():
            sides["ours"].append(mine[shape])
            sides["PyTorch"].append(theirs(*shape, fused=False, steps=arguments.steps))
            sides["PyTorch, fused Adam"].append(theirs(*shape, fused=True, steps=arguments.steps))
    print(f"PyTorch {torch.__version__}, one thread; ns a sequence and step, medians of {arguments.rounds} rounds (least to most)")
    for (hidden, sequences), sides in found.items():
        for side, values in sides.items():
            ratios = [it / mine for it, mine in zip(values, sides["ours"])]
            print(
                f"state {hidden:3}, {sequences:3} sequences  {side:20} {statistics.median(values):8.0f} ({min(values):.0f} to {max(values):.0f})"
                f"   {statistics.median(ratios):5.2f} times ours ({min(ratios):.2f} to {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
