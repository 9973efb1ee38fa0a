"""How long until the gradient of a Gaussian expectation has a given error, and how many HVPs a second?

E g(W x + b), x in R^512, W (16, 512), g a two-layer tanh head (16 -> 16 -> 1), 4,096 and 65,536 samples. Three axes:
seconds of a gradient and to an equal standard error of its W part, against Monte Carlo in R^512 with autograd (and
torch.compile); seconds of m Hessian-vector products against torch.func, double backward, curvlinops and PyHessian;
memory of a gradient. Ours includes drawing its samples (and for gradients and "hvp full" the factorisation of W); the
HVP peers are given theirs.

    hvp full   directions in all of (W, b, theta) through `sdp.Expectation.hvp`, which samples R^16 and takes what
               leaves the row space of W exactly; peers get samples of the joint row space of W and all directions, as
               the textbook has it. "sdp, joint row space" is our kernel on the peers' samples
    hvp all    directions in (L, b, theta), W = L Q^T, everybody on the same samples of R^16
    hvp z      directions in L and b, on the same samples

    python -m benchmarks.expectation_error_per_second --repeats 30
    python -m benchmarks.expectation_error_per_second --device cuda

Methods of one comparison run in one process, one after the other in every repeat. Before each timed call there is a
pause, in which the threads of whoever came before fall asleep (GNU OpenMP lets them spin for 4 ms, on the core that the
next one needs), and an untimed call of the same method. A ratio is the median over repeats.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from benchmarks import _machine
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread
from benchmarks.baselines import torch_expectation as peers

QUESTION = "expectation_error_per_second"
KEY = ("axis", "method", "size", "samples", "threads", "device")
OURS = "sdp"
K, D, HIDDEN = 16, 512, 16
SAMPLES = (4096, 65_536)
HVP_BATCHES = (1, 4, 16, 64)
MOST_TANGENTS = 1 << 21  # samples times directions: vmap holds the layers of all at once
ERROR_SEEDS = (
    40  # the standard deviation of a root mean square over 8192 entries is then known to a few percent
)
AGREEMENT = 2e-4  # of float32 HVPs, relative to the largest entry
MOST_DEVIATION = 1.5  # of two estimates of an HVP in W, rms over its entries, in their joint standard errors
SETTLE_SECONDS = 0.02
TEXTBOOK = f"{OURS}, joint row space"
PLAIN = "plain torch"
CLAIMS = {"gradient": 12.0, "gradient to equal error": 500.0, "hvp": 2.5}


def problem(device: str = "cpu", seed: int = 0) -> peers.Problem:
    """The head of every comparison: random, entries of W x + b of order 1."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    zero = torch.zeros((), device=device)
    params = [randn(HIDDEN, K) / K**0.5, 0.3 * randn(HIDDEN), randn(HIDDEN) / HIDDEN**0.5, zero]
    return peers.Problem(randn(K, D) / D**0.5, 0.5 * randn(K), params)


def our_gradient(given: peers.Problem, n_samples: int) -> Callable[[int], Tensor]:
    """A function of the seed: the gradient in W (k, d), factorisation included."""
    from sdp.expectation.law import reduce_law
    from sdp_kernels import expectation

    network = expectation.Network("tanh")

    def gradient(seed: int) -> Tensor:
        law = reduce_law(given.W)
        draw = expectation.Draw(n_samples // 2, seed)
        grads = expectation.grad_batches(law.L, given.b, given.params, network, draw)[1]
        return grads[:, : law.L.numel()].mean(0).to(law.Q.dtype).reshape(law.L.shape) @ law.Q.T

    return gradient


def seconds_of(methods: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every method, interleaved, each in the state that its own calls leave."""
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for method in methods.values():
        method()
        method()
    for _ in range(repeats):
        for name, method in methods.items():
            time.sleep(SETTLE_SECONDS)
            method()
            _finish()
            start = time.perf_counter()
            method()
            _finish()
            taken[name].append(time.perf_counter() - start)
    return taken


def _finish() -> None:
    """Waits for a GPU where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timing(taken: dict[str, list[float]], name: str) -> Record:
    """Seconds of a method and its ratio to ours, repeat by repeat."""
    ratios = spread(theirs / ours for theirs, ours in zip(taken[name], taken[OURS], strict=True))
    found = spread(taken[name])
    return {
        "seconds": found.median,
        "seconds_low": found.low,
        "seconds_high": found.high,
        "repeats": found.count,
        "ratio": ratios.median,
        "ratio_low": ratios.low,
        "ratio_high": ratios.high,
        "ratio_of_lowest": found.low / min(taken[OURS]),
        "commit": _machine.commit(),
        "load_average": _machine.load_average(),
    }


def measure_gradient(n_samples: int, repeats: int, threads: int, device: str, compiled: bool) -> list[Record]:
    """Records of the axis "gradient": seconds, standard error of grad_W, ratio of the times to an equal one."""
    torch.set_num_threads(threads)
    given = problem(device)
    peer = "torch.compile" if compiled else PLAIN
    methods = {
        OURS: our_gradient(given, n_samples),
        peer: peers.plain_gradient(given, n_samples, is_compiled=compiled),
    }
    centre = torch.stack([methods[OURS](1000 + seed) for seed in range(ERROR_SEEDS)]).mean(0)
    errors, means = {}, {}
    for name, method in methods.items():
        found = torch.stack([method(seed) for seed in range(ERROR_SEEDS)])
        means[name] = found.mean(0)
        errors[name] = float(found.var(0).mean().sqrt())
        # Both are unbiased: means over the seeds differ by their standard errors, here within a fifth.
        off = float((means[name] - centre).square().mean().sqrt())
        allowed = 1.2 * ((errors[name] ** 2 + errors[OURS] ** 2) / ERROR_SEEDS) ** 0.5
        if off > allowed:
            raise RuntimeError(f"{name}: mean gradient is off by {off:.2e}, where {allowed:.2e} is allowed.")
    taken = seconds_of({name: (lambda m=method: m(0)) for name, method in methods.items()}, repeats)  # type: ignore[misc]
    records = []
    for name in methods:
        timed = timing(taken, name)
        variance = (errors[name] / errors[OURS]) ** 2
        equal = {
            f"equal_error_{part}": timed[part] * variance for part in ("ratio", "ratio_low", "ratio_high")
        }
        key = {"axis": "gradient", "method": name, "size": n_samples, "samples": n_samples}
        key |= {"threads": threads, "device": device}
        records.append({**key, "standard_error": errors[name], **timed, **equal})
    return records[1:] if compiled else records  # ours is told once, beside plain torch


def measure_hvps(m: int, n_samples: int, repeats: int, threads: int, device: str, kind: str) -> list[Record]:
    """Records of the axis "hvp KIND": m products at once."""
    torch.set_num_threads(threads)
    given = problem(device)
    methods, rank = (full_hvps if kind == "full" else reduced_hvps)(given, m, n_samples, kind)
    taken = seconds_of(methods, repeats)
    key = {"axis": f"hvp {kind}", "size": m, "samples": n_samples, "threads": threads, "device": device}
    key["q"] = rank
    return [
        {**key, "method": name, **timing(taken, name), "hvps_per_second": m / spread(taken[name]).median}
        for name in methods
    ]


Methods = dict[str, Callable[[], object]]


def reduced_hvps(given: peers.Problem, m: int, n_samples: int, kind: str) -> tuple[Methods, int]:
    """Methods of "all" and "z", checked against each other, and the dimension of their samples."""
    from sdp.expectation.law import reduce_law

    law = reduce_law(given.W)
    columns = randn_directions(m, law.L.numel() + K + sum(tensor.numel() for tensor in given.params), given)
    if kind == "z":
        columns[:, law.L.numel() + K :] = 0.0
    return kernel_and_peers(given, law.L, columns, n_samples), law.rank


def full_hvps(given: peers.Problem, m: int, n_samples: int, _: str) -> tuple[Methods, int]:
    """Methods of "full": the public call, and everybody else on samples of the joint row space."""
    import sdp
    from sdp.expectation.law import reduce_law
    from sdp_kernels import expectation

    V_W = randn_directions(m * K, D, given)
    rest = randn_directions(m, K + sum(tensor.numel() for tensor in given.params), given, seed=2)
    law = reduce_law(given.W, V_W)
    L = law.L[:K].contiguous()
    V_L = (V_W @ law.Q).reshape(m, -1)
    methods = kernel_and_peers(given, L, torch.cat([V_L, rest], 1), n_samples)
    methods = {TEXTBOOK if name == OURS else name: method for name, method in methods.items()}
    head = sdp.MLP((K, HIDDEN), "tanh").to(given.W.device)
    with torch.no_grad():
        for parameter, value in zip(head.parameters(), given.params, strict=True):
            parameter.copy_(value)
    F = sdp.Expectation(head, given.W, given.b, n_samples, method="sampling", control_variate=False)
    V_b, *V_theta = torch.split(rest, [K, *(tensor.numel() for tensor in given.params)], 1)
    shaped = [V.reshape(m, *tensor.shape) for V, tensor in zip(V_theta, given.params, strict=True)]
    directions = {"W": V_W.view(m, K, D), "b": V_b, "theta": shaped}

    found = F.hvp(directions)
    draw, network = expectation.Draw(n_samples // 2, 0), expectation.Network("tanh")
    columns = torch.cat([V_L, rest], 1)
    batches = expectation.hvp_batches(L, given.b, given.params, network, draw, columns)[2]
    lifted = batches[..., : L.numel()].reshape(len(batches), m, K, -1) @ law.Q.T.double()
    variance = found.standard_error.W.square().mean() + lifted.var(0).mean() / len(batches)
    off = float(((found.value.W - lifted.mean(0)).square().mean() / variance).sqrt())
    if not off < MOST_DEVIATION:
        raise RuntimeError(f"our product in W is {off:.2f} standard errors off the textbook's.")
    return {OURS: lambda: F.hvp(directions).value, **methods}, law.rank


def randn_directions(m: int, n_columns: int, given: peers.Problem, seed: int = 1) -> Tensor:
    """(m, n_columns) on the device of the problem."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(m, n_columns, generator=generator).to(given.W.device)


def kernel_and_peers(given: peers.Problem, L: Tensor, columns: Tensor, n_samples: int) -> Methods:
    """Our kernel and the peers on the same samples, all with the same answer."""
    from sdp_kernels import expectation, gaussian

    draw, network = expectation.Draw(n_samples // 2, 0), expectation.Network("tanh")
    xi = gaussian.normal(
        (draw.n, L.shape[1]), seed=0, purpose=gaussian.PURPOSE_SAMPLES, device=given.W.device
    )

    def ours() -> Tensor:
        return expectation.hvp_batches(L, given.b, given.params, network, draw, columns)[2].mean(0)

    methods = {OURS: ours, **peers.hvp_methods(L, given.b, given.params, xi, columns)}
    wanted = ours()
    for name, method in methods.items():
        off = (method().detach().double() - wanted).abs().max() / wanted.abs().max()
        if not off < AGREEMENT:
            raise RuntimeError(f"{name} differs from ours by {float(off):.1e} of the largest entry.")
    return dict(methods)


def measure_memory(method: str, n_samples: int, threads: int, device: str) -> list[Record]:
    """The record of the axis "memory": bytes that one gradient adds to a process that has made a small one."""
    torch.set_num_threads(threads)
    make = our_gradient if method == OURS else peers.plain_gradient
    make(problem(device), 64)(0)
    peak = _machine.peak_memory_bytes if device == "cpu" else torch.cuda.max_memory_allocated
    before = peak()
    make(problem(device), n_samples)(0)
    added = peak() - before
    key = {"axis": "memory", "method": method, "size": n_samples, "samples": n_samples}
    key |= {"threads": threads, "device": device}
    record = {**key, "bytes_added": added, "commit": _machine.commit()}
    return [{**record, "load_average": _machine.load_average()}]


def table(records: list[Record]) -> str:
    """All axes as Markdown."""
    header = [
        "axis",
        "size",
        "samples",
        "threads",
        "method",
        "ms or MiB",
        "peer / ours",
        "equal error, peer / ours",
    ]
    rows: list[list[object]] = []
    for record in records:
        start = [record[name] for name in ("axis", "size", "samples", "threads", "method")]
        if record["axis"] == "memory":
            rows.append([*start, f"{record['bytes_added'] / 2**20:.0f}", None, None])
            continue
        ratio = f"{record['ratio']:.3g} ({record['ratio_low']:.3g} to {record['ratio_high']:.3g})"
        equal = record.get("equal_error_ratio")
        is_ours = record["method"] == OURS
        last = None if is_ours or equal is None else f"{equal:.3g}"
        rows.append([*start, f"{1e3 * record['seconds']:.3g}", None if is_ours else ratio, last])
    return markdown_table(header, rows)


def broken_claims(records: list[Record]) -> list[str]:
    """Sentences on each claim that a measurement contradicts: gradients against plain torch, products against all."""
    found = []
    for axis, claim in CLAIMS.items():
        is_hvp = axis == "hvp"
        column = "equal_error_ratio" if axis.endswith("error") else "ratio"
        groups: dict[str, list[float]] = {}
        for record in records:
            fits = record["size"] == 16 if is_hvp else record["method"] == PLAIN
            if (
                record["method"] not in (OURS, TEXTBOOK)
                and fits
                and record["axis"].split()[0] == axis.split()[0]
            ):
                name = f"{record['axis']}, {record['samples']:,} samples, {record['threads']} thread(s)"
                groups.setdefault(name, []).append(record[column])
        found += [
            f"{name}: {axis} is {min(ratios):.3g} times as fast as its peer, not {claim:g}."
            for name, ratios in groups.items()
            if min(ratios) < claim
        ]
    return found


def run(
    repeats: Annotated[int, typer.Option(help="Repeats of every timing.")] = 30,
    threads: Annotated[int, typer.Option(help="Threads of torch and of ours.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    compiled: Annotated[bool, typer.Option(help="Also torch.compile, which needs a C++ compiler.")] = True,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS_FOLDER,
) -> None:
    """Measure every axis, each comparison in a process of its own, then print the table and what does not hold."""
    results = Results(QUESTION, KEY, out)

    def alone(work: Callable[..., list[Record]], *arguments: object) -> list[Record]:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(work, *arguments).result()

    jobs: list[tuple[Callable[..., list[Record]], tuple[object, ...]]] = [
        # One peer a process: what torch.compile leaves spinning slows whoever comes next.
        (measure_gradient, (n_samples, repeats, threads, device, is_compiled))
        for is_compiled in ((False, True) if compiled else (False,))
        for n_samples in SAMPLES
    ]
    jobs += [
        (measure_hvps, (m, n_samples, max(3, repeats // 3), threads, device, kind))
        for kind in ("full", "all", "z")
        for n_samples in SAMPLES
        for m in HVP_BATCHES
        if n_samples * m <= MOST_TANGENTS
    ]
    jobs += [(measure_memory, (method, 1 << 16, threads, device)) for method in (OURS, PLAIN)]
    jobs += [(measure_memory, (OURS, 1 << 22, threads, device))]
    for work, arguments in jobs:
        for record in alone(work, *arguments):
            results.add(record)
        typer.echo(f"{work.__name__}{arguments}", err=True)
    typer.echo(table(results.records()))
    for sentence in broken_claims(results.records()):
        typer.echo(f"DOES NOT HOLD: {sentence}")


if __name__ == "__main__":
    typer.run(run)
