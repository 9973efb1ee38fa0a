"""What does weight decay on the first layer alone do to a network on real data, and does its test error pay for it?

scikit-learn's handwritten digits: 1,797 images of 64 pixels, standardised (constant pixels left out), ten classes. A
torch network of two hidden layers, all of it trained with Adam by an ordinary loop, watched by `sdp.track_structure`.
Real pixels are not Gaussian and nobody knows a U, so there is no W_perp here: the spectrum is what can be seen.

    python -m benchmarks.structure_digits      # two minutes
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

QUESTION = "structure_digits"
KEY = ("lam", "seed")
LAMS = (0.0, 1e-3, 3e-3, 1e-2, 3e-2)
WIDTH, EPOCHS, BATCH, LR = 128, 100, 64, 2e-3
RANKS = (5, 9, 15)  # W is cut down to these after training


def digits(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standardised training and test sets: x (1347, 61), y (1347,), x (450, 61), y (450,)."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X, y, test_size=0.25, random_state=seed, stratify=y)
    train, test = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
    varies = train.std(0) > 0
    mean, scale = train[:, varies].mean(0), train[:, varies].std(0)
    train, test = ((part[:, varies] - mean) / scale for part in (train, test))
    return train, torch.tensor(parts[2]), test, torch.tensor(parts[3])


def measure(lam: float, seed: int) -> Record:
    """One network: test error, and the spectrum of its first layer."""
    import sdp
    from sdp.optim.spectrum import leading_directions

    x, y, x_test, y_test = digits(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(x.shape[1], WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10)
    )
    first: Any = model[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, EPOCHS)
    with sdp.track_structure(first, every=len(x) // BATCH) as tracker:
        for _ in range(EPOCHS):
            for chosen in torch.split(torch.randperm(len(x)), BATCH):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
                (loss + lam * first.weight.square().sum()).backward()
                optimizer.step()
            scheduler.step()
    found = tracker.spectrum
    record = {
        "test_error": error(model, x_test, y_test),
        "stable_rank": found.stable_rank,
        "visible_rank": found.visible_rank,
        "singular_values": list(found.singular_values[:20]),
        "initial_stable_rank": tracker.records[0].spectrum.stable_rank,
    }
    W = first.weight.detach().clone()
    for rank in RANKS:
        V = leading_directions(W, rank)
        with torch.no_grad():
            first.weight.copy_(W @ V.T @ V)
        record[f"test_error_at_rank_{rank}"] = error(model, x_test, y_test)
    return {**record, "commit": _machine.commit(), "load_average": _machine.load_average()}


@torch.no_grad()
def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of wrong answers."""
    return float((model(x).argmax(1) != y).double().mean())


def table(records: list[Record]) -> str:
    """One row a lam, medians over seeds with their range."""
    header = ["lam", "seeds", "test error", "stable rank", "s_10 / s_1"]
    header += [f"test error, W cut to rank {rank}" for rank in RANKS]
    rows: list[list[object]] = []
    for lam in LAMS:
        own = [record for record in records if record["lam"] == lam]
        if own:
            columns = [[record[name] for record in own] for name in ("test_error", "stable_rank")]
            columns += [[record["singular_values"][9] / record["singular_values"][0] for record in own]]
            columns += [[record[f"test_error_at_rank_{rank}"] for record in own] for rank in RANKS]
            rows.append([f"{lam:g}", len(own), *(spread(column).text() for column in columns)])
    return markdown_table(header, rows)


def run(
    seeds: Annotated[int, typer.Option(help="Splits and networks for each lam.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Train what was not trained before, and print the table."""
    torch.set_num_threads(1)  # a step takes .3 ms
    results = Results(QUESTION, KEY, out)
    for lam in LAMS:
        for seed in range(seeds):
            key = {"lam": lam, "seed": seed}
            if not results.has(key):
                results.add({**key, **measure(lam, seed)})
    typer.echo(table(results.records()))


if __name__ == "__main__":
    typer.run(run)
