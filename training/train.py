"""Trains the encoder on the policies of ``training/policies``, and fits its read-out.

    .venv/bin/python -m training.train OUT [--threads 2] [--device cpu]

Writes ``OUT/trained.safetensors`` (float32, by the names of the checkpoint) and
``OUT/training.json`` (settings, losses, time). README.md says what makes the files of the engine of
them. Two cores that do nothing else take less than an hour; equal threads give equal weights.

Each step draws a few policies. Of each it takes conversations and some of its routes: a
conversation whose route was left out must pick "none", as must strangers of other policies. In
half of the policies each route comes with up to four other conversations, as the scorer uses
examples. The loss is the cross-entropy of a softmax over the routes and "none", to which the
routes of the other policies of the step are added with little weight.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from training.data import Policy, Talk, Tokenizer, Tokens, read_policies, route_text, varied
from training.encoder import Encoder, average, base_weights

NEAREST: Final = 3
MANY: Final = 20
"""Routes above which a policy counts as one of many narrow intents."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The recipe; README.md says what else was tried, and what it gave."""

    seed: int = 0
    steps: int = 650
    policies: int = 6
    conversations: int = 16
    rate: float = 2e-4
    scale_rate: float = 0.1
    warm_up: float = 0.1
    decay: float = 0.01
    dropout: float = 0.1
    fewer_routes: float = 0.5
    """Share of policies of which routes are left out."""
    stranger_routes: float = 0.5
    """Share of policies that get up to three routes of another one."""
    strangers: float = 0.1
    """Conversations of other policies, as a share of a policy's own."""
    examples: float = 0.5
    """Share of policies whose routes come with examples."""
    most_examples: int = 4
    other_routes: float = 4.0
    """Weight of all routes of the step's other policies together, counted in routes."""
    many_times: int = 1
    """How often a policy with many routes is drawn where another is drawn once."""
    share: float = 0.7
    """How far the result lies from the base (0) to the trained weights (1)."""


@dataclass(slots=True)
class Task:
    """One policy of a step, as indices into the step's texts."""

    talks: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    """Positions in ``routes``; ``len(routes)`` for none."""
    routes: list[int] = field(default_factory=list)
    examples: list[list[int]] | None = None
    """Of each route; None in a policy without examples."""
    no_route: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Step:
    """The texts of one step: conversations, routes and examples are embedded apart."""

    talks: list[Tokens] = field(default_factory=list)
    routes: list[Tokens] = field(default_factory=list)
    examples: list[Tokens] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)


class Sampler:
    """Draws steps. Each conversation of a policy comes once before any comes again."""

    def __init__(self, policies: Sequence[Policy], settings: Settings) -> None:
        self._policies = policies
        self._settings = settings
        self._chance = np.random.default_rng(settings.seed)
        self._tokens = Tokenizer()
        self._queue: list[int] = []
        self._round = [
            number
            for number, policy in enumerate(policies)
            for _ in range(settings.many_times if len(policy.routes) > MANY else 1)
        ]
        self._talks: list[list[int]] = [[] for _ in policies]
        self._by_route = [
            {route: policy.of_route(route) for route in range(-1, len(policy.routes))}
            for policy in policies
        ]

    def __iter__(self) -> Iterator[Step]:
        for _ in range(self._settings.steps):
            step = Step()
            for _ in range(self._settings.policies):
                if not self._queue:
                    self._queue = self._chance.permutation(self._round).tolist()
                step.tasks.append(self._task(self._queue.pop(), step))
            yield step

    def _task(self, number: int, step: Step) -> Task:
        policy, settings, chance = self._policies[number], self._settings, self._chance
        taken = self._take(number)
        kept = self._kept_routes(len(policy.routes))
        strangers = self._other(policy)
        extra = []
        if strangers is not None and chance.random() < settings.stranger_routes:
            count = min(len(strangers.routes), int(chance.integers(1, 4)))
            extra = chance.choice(len(strangers.routes), count, replace=False).tolist()
        task = Task()
        variant = int(chance.integers(3))
        for index in kept:
            others = policy.variants[index]
            route = others[variant - 1] if 0 < variant <= len(others) else policy.routes[index]
            self._add(task.routes, step.routes, self._tokens.text(route_text(route, chance)))
        for index in extra:
            text = route_text(strangers.routes[index], chance)
            self._add(task.routes, step.routes, self._tokens.text(text))
        none = len(task.routes)
        position = {route: at for at, route in enumerate(kept)}
        talks = [policy.talks[index] for index in taken]
        task.labels = [position.get(talk.route, none) for talk in talks]
        for _ in range(chance.binomial(settings.conversations, settings.strangers)):
            other = self._other(policy)
            if other is not None:
                talks.append(other.talks[int(chance.integers(len(other.talks)))])
                task.labels.append(none)
        for talk in talks:
            self._add(task.talks, step.talks, self._talk(talk))
        if chance.random() < settings.examples:
            self._add_examples(task, step, number, kept, set(taken))
            task.examples = [*(task.examples or []), *([] for _ in extra)]
        return task

    def _add_examples(
        self, task: Task, step: Step, number: int, kept: Sequence[int], taken: set[int]
    ) -> None:
        policy, most = (
            self._policies[number],
            int(self._chance.integers(1, self._settings.most_examples + 1)),
        )
        task.examples = []
        for route in (*kept, -1):
            free = [index for index in self._by_route[number][route] if index not in taken]
            own: list[int] = []
            for index in self._chance.permutation(free)[:most].tolist() if free else []:
                self._add(own, step.examples, self._talk(policy.talks[int(index)]))
            if route < 0:
                task.no_route = own
            else:
                task.examples.append(own)

    def _take(self, number: int) -> list[int]:
        queue, count = self._talks[number], self._settings.conversations
        while len(queue) < count:
            queue[:0] = self._chance.permutation(len(self._policies[number].talks)).tolist()
        return [queue.pop() for _ in range(count)]

    def _kept_routes(self, count: int) -> list[int]:
        kept = list(range(count))
        if count > 2 and self._chance.random() < self._settings.fewer_routes:
            left_out = int(self._chance.integers(1, count // 2 + 1))
            gone = set(self._chance.choice(count, left_out, replace=False).tolist())
            kept = [route for route in kept if route not in gone]
        return kept

    def _other(self, policy: Policy) -> Policy | None:
        """A policy of another family; None if the draw hit the same one, whose topics are near."""
        other = self._policies[int(self._chance.integers(len(self._policies)))]
        return None if other.id[0] == policy.id[0] else other

    def _talk(self, talk: Talk) -> Tokens:
        def any_talk() -> Talk:
            policy = self._policies[int(self._chance.integers(len(self._policies)))]
            return policy.talks[int(self._chance.integers(len(policy.talks)))]

        return self._tokens.turns(varied(talk, any_talk, self._chance))

    @staticmethod
    def _add(indices: list[int], texts: list[Tokens], text: Tokens) -> None:
        indices.append(len(texts))
        texts.append(text)


class Scales(nn.Module):
    """The numbers of the read-out while training; training/readout.py fits the final ones."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.Parameter(torch.tensor(20.0))
        self.bar = nn.Parameter(torch.tensor(7.0))
        self.text_beside = nn.Parameter(torch.tensor(6.0))
        self.near = nn.Parameter(torch.tensor(16.0))
        self.bar_beside = nn.Parameter(torch.tensor(8.0))
        self.near_none = nn.Parameter(torch.tensor(16.0))
        self.bar_none = nn.Parameter(torch.tensor(0.0))


def step_loss(encoder: Encoder, scales: Scales, step: Step, settings: Settings) -> Tensor:
    """The mean cross-entropy of all conversations of a step."""
    talks = encoder.embed(step.talks, settings.dropout)
    routes = encoder.embed(step.routes, settings.dropout)
    examples = encoder.embed(step.examples, settings.dropout) if step.examples else routes[:0]
    losses = [_task_loss(task, talks, routes, examples, scales, settings) for task in step.tasks]
    return torch.cat(losses).mean()


def _task_loss(
    task: Task, talks: Tensor, routes: Tensor, examples: Tensor, scales: Scales, settings: Settings
) -> Tensor:
    asked = talks[task.talks]
    cosines = asked @ routes[task.routes].T
    none = scales.bar.expand(len(asked), 1)
    logits = scales.text * cosines
    if task.examples is not None:
        near, has = _nearest(asked, examples, task.examples)
        none = scales.bar_beside.expand(len(asked), 1)
        logits = torch.where(
            has,
            scales.text_beside * cosines + scales.near * near,
            logits - scales.bar + scales.bar_beside,
        )
        if task.no_route:
            near, _ = _nearest(asked, examples, [task.no_route])
            none = torch.logaddexp(none, scales.near_none * near + scales.bar_none)
    others = torch.ones(len(routes), dtype=torch.bool, device=routes.device)
    others[task.routes] = False
    foreign = scales.text * (asked @ routes[others].T)
    spread = np.log(max(1.0, int(others.sum()) / settings.other_routes))
    labels = torch.tensor(task.labels, device=asked.device)
    return F.cross_entropy(torch.cat([logits, none, foreign - spread], 1), labels, reduction="none")


def _nearest(
    asked: Tensor, examples: Tensor, own: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """The mean cosine of the three nearest examples of each route, and which routes have any."""
    most = max([len(indices) for indices in own] + [1])
    index = np.zeros((len(own), most), np.int64)
    there = np.zeros((len(own), most), bool)
    for row, indices in enumerate(own):
        index[row, : len(indices)] = indices
        there[row, : len(indices)] = True
    present = torch.from_numpy(there).to(asked.device)
    if not len(examples):
        return asked.new_zeros(len(asked), len(own)), present.any(1)
    cosines = torch.einsum("qd,rmd->qrm", asked, examples[torch.from_numpy(index).to(asked.device)])
    cosines = cosines.masked_fill(~present, -9.0).topk(min(NEAREST, most), 2).values
    real = cosines > -5.0
    mean = torch.where(real, cosines, 0.0).sum(2) / real.sum(2).clamp(min=1)
    return mean, present.any(1)


def train(
    policies: Sequence[Policy], settings: Settings, device: str
) -> tuple[dict[str, Tensor], list[float]]:
    """The trained tensors by the names of the checkpoint, and the loss of every step."""
    torch.manual_seed(settings.seed)
    base = base_weights()
    encoder, scales = Encoder(base).to_device(device), Scales().to(device)
    optimizer = torch.optim.AdamW(_groups(encoder, scales, settings), betas=(0.9, 0.98))
    losses: list[float] = []
    steps = tqdm(Sampler(policies, settings), total=settings.steps, unit="step", disable=None)
    for number, step in enumerate(steps):
        warm = min(1.0, (number + 1) / (settings.warm_up * settings.steps))
        left = 1.0 - number / settings.steps
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (
                warm * left if group["cools"] else min(1.0, 2 * warm * left)
            )
        with torch.autocast("cuda", torch.bfloat16, enabled=device == "cuda"):
            loss = step_loss(encoder, scales, step, settings)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        steps.set_postfix(loss=f"{np.mean(losses[-25:]):.3f}")
    return average(encoder.state(), base, settings.share), losses


def _groups(encoder: Encoder, scales: Scales, settings: Settings) -> list[dict[str, Any]]:
    """What is trained at which rate; biases and norms do not decay."""
    matrices = [value for value in encoder.parameters() if value.ndim > 1]
    rest = [value for value in encoder.parameters() if value.ndim == 1]
    layers = {"peak": settings.rate, "cools": True}
    return [
        {"params": matrices, "weight_decay": settings.decay, **layers},
        {"params": rest, "weight_decay": 0.0, **layers},
        {
            "params": list(scales.parameters()),
            "weight_decay": 0.0,
            "peak": settings.scale_rate,
            "cools": False,
        },
    ]


def main() -> None:
    """Trains, and writes the weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args()
    settings = Settings(**{name: getattr(options, name) for name in asdict(Settings())})
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(options.device == "cpu")
    policies = [policy for policy in read_policies() if not policy.held_out]
    began = time.monotonic()
    trained, losses = train(policies, settings, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    save_file(trained, options.out / "trained.safetensors")
    about = {
        "settings": asdict(settings),
        "device": options.device,
        "threads": options.threads,
        "torch": torch.__version__,
        "policies": len(policies),
        "conversations": sum(len(policy.talks) for policy in policies),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "losses": [round(loss, 4) for loss in losses],
    }
    (options.out / "training.json").write_text(json.dumps(about) + "\n", "utf-8")


if __name__ == "__main__":
    main()
