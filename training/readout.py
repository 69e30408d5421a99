"""Fits the read-out of the bundled model on policies that it has not been trained on.

    .venv/bin/python -m training.readout [--write] [--results FOLDER]

Run it after ``python training/graph/build_graph.py``: it uses the engine as it is shipped, int8.
The scales are those with the least negative log-likelihood on the held-out policies: without
examples, with 12 and 20 examples a route that a language model wrote from the routes' texts alone
(``training/suggested``), and with one to five drawn ones. What it prints is cross-validated: each
half of the policies is measured with a read-out that was fitted on the other half.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from serve_app.engines.embedding.engine import EmbeddingModel, EmbeddingSettings
from serve_app.engines.embedding.minilm import READOUT_FILE
from serve_app.scoring.readout import Readout
from training.data import SUGGESTED, Policy, read_policies
from training.features import Features, Similarities, drawn, suggested
from training.measure import Quality, quality

# The trust is chosen: broad routes want less of it (0.25 with 3 and 5 drawn examples), and sets of
# narrow intents more (0.55 and above).
START: Final = Readout(
    whole=0.5, name=0.2, phrase=0.3, text=19.0, bar=5.0, text_beside=7.0, near=25.0,
    bar_beside=10.0, near_none=17.0, bar_none=5.0,
    trust=(0.0, 0.15, 0.28, 0.4, 0.48, 0.55, 0.64, 0.73, 0.82, 0.91, 1.0),
    none_direction=(0.0,) * 384,
)  # fmt: skip
ALONE: Final = ("text", "bar", "none_direction")
BESIDE: Final = ("text_beside", "near", "bar_beside", "near_none", "bar_none")
DRAWN: Final = (1, 2, 3, 5)
WRITTEN: Final = (12, 20)
"""Numbers of suggested examples for each route; 20 is the default of ``fingerpost suggest``."""
PENALTY: Final = 1.5e-3
"""Of the squares of ``none_direction``. A smaller one separates the held-out policies better
(README.md), and sets of another manner worse: the direction learns the manner of the policies.
"""

Sets = Mapping[str, Sequence[Features]]


def feature_sets(policies: Iterable[Policy], model: EmbeddingModel) -> dict[str, list[Features]]:
    """The features of the policies without examples, with suggested ones, and with drawn ones."""
    similarities = Similarities(model)
    sets: dict[str, list[Features]] = {}
    for policy in policies:
        sets.setdefault("none", []).append(similarities.of(policy))
        for count in WRITTEN:
            examples = suggested(policy, SUGGESTED, count)
            if examples is not None:
                sets.setdefault(f"{count} suggested", []).append(similarities.of(policy, examples))
        for count in DRAWN:
            chosen, used = drawn(policy, count, seed=count)
            sets.setdefault(f"{count} drawn", []).append(similarities.of(policy, chosen, used))
    return sets


def fit(sets: Sets) -> Readout:
    """The read-out with the least negative log-likelihood on these sets."""
    readout = _fitted(START, ALONE, sets["none"])
    return _fitted(
        readout, BESIDE, [one for count in WRITTEN for one in sets[f"{count} suggested"]]
    )


def _fitted(readout: Readout, names: Sequence[str], features: Sequence[Features]) -> Readout:
    free = {
        name: torch.tensor(getattr(readout, name), dtype=torch.float64, requires_grad=True)
        for name in names
    }
    optimizer = torch.optim.LBFGS(free.values(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(_logits(readout, features, free), features)
        if "none_direction" in free:
            loss = loss + PENALTY * free["none_direction"].square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return replace(readout, **{name: _rounded(value.detach()) for name, value in free.items()})


def _rounded(value: Tensor) -> Any:  # noqa: ANN401 - as the fields of Readout: a number, or several
    return tuple(map(_rounded, value)) if value.ndim else round(float(value), 4)


def _logits(
    readout: Readout, features: Sequence[Features], free: Mapping[str, Tensor]
) -> list[Tensor]:
    """As Readout.logits, with numbers that can be fitted; checked against it by a test."""

    def number(name: str) -> Tensor:
        return free.get(name, torch.tensor(getattr(readout, name), dtype=torch.float64))

    found = []
    for one in features:
        similarity = torch.from_numpy(readout.similarity(one.whole, one.name, one.phrase))
        alone = number("text") * similarity - number("bar")
        beside = number("text_beside") * similarity + number("near") * torch.from_numpy(one.near)
        counts = torch.from_numpy(one.counts).clamp(max=len(readout.trust) - 1)
        trust = torch.tensor(readout.trust, dtype=torch.float64)[counts]
        logits = alone + trust * (beside - number("bar_beside") - alone)
        none = torch.from_numpy(one.turned) @ number("none_direction")[:, None]
        if one.near_none is not None:
            near = torch.from_numpy(one.near_none)[:, None]
            none = torch.logaddexp(none, number("near_none") * near - number("bar_none"))
        found.append(torch.cat([logits, none], 1))
    return found


def _loss(logits: Sequence[Tensor], features: Sequence[Features]) -> Tensor:
    """The mean negative log-likelihood of what was expected."""
    losses = [
        F.cross_entropy(one, torch.from_numpy(own.expected), reduction="sum")
        for one, own in zip(logits, features, strict=True)
    ]
    return torch.stack(losses).sum() / sum(len(one) for one in logits)


def cross_validated(sets: Sets) -> dict[str, Quality]:
    """The quality of each set, each half of the policies with what was fitted on the other."""
    names = sorted({one.policy for one in sets["none"]})
    halves = [set(names[0::2]), set(names[1::2])]
    parts: dict[str, list[tuple[Features, Readout]]] = {name: [] for name in sets}
    for half in halves:
        readout = fit(
            {name: [one for one in of if one.policy not in half] for name, of in sets.items()}
        )
        for name, of in sets.items():
            parts[name] += [(one, readout) for one in of if one.policy in half]
    return {name: quality(own) for name, own in parts.items()}


def _one_line_each(fields: Mapping[str, object]) -> str:
    """An object as JSON with a line for each field."""
    lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in fields.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Fits, prints what it is worth, and writes it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="replace the engine's read-out")
    parser.add_argument("--results", type=Path, help="folder for readout.json, the figures")
    options = parser.parse_args()
    policies = [policy for policy in read_policies() if policy.held_out]
    sets = feature_sets(policies, EmbeddingModel(EmbeddingSettings()))
    readout = fit(sets)
    print(json.dumps(asdict(readout)))
    figures = cross_validated(sets)
    for name, own in figures.items():
        print(f"{name:12}", own.line())
    if options.write:
        READOUT_FILE.write_text(_one_line_each(asdict(readout)), "utf-8")
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        content = {
            "readout": {**asdict(readout), "none_direction": "see minilm_readout.json"},
            "cross_validated": {name: asdict(own) for name, own in figures.items()},
        }
        (options.results / "readout.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
