"""The gateway behind the page in tests and in screenshots: routes, prices, and requests to show."""

import json
from pathlib import Path
from typing import Any, Final

from tests.scripted_provider import ScriptedProvider
from tests.site import TIMEOUTS, Site, closed_port

KEY: Final = "fp-client-key-1"
"""The value of ``$CLIENT_KEY``."""

ROUTES: Final = [
    {
        "name": "code",
        "description": "writing, explaining, reviewing and debugging code",
        "models": ["dedicated/coder", "inline/parrot"],
        "examples": [
            "why does this loop never end?",
            "turn this curl command into Python",
            "the build is red since the last merge",
        ],
    },
    {
        "name": "writing",
        "description": "stories, poems, e-mails, essays and other creative texts",
        "models": ["inline/poet"],
    },
    {
        "name": "travel",
        "description": "trips, hotels, flights, sights and what to do in a city",
        "models": ["shared/guide", "dedicated/parrot"],
    },
    {
        "name": "translation",
        "description": "translating texts from one language into another",
        "models": ["shared/polyglot"],
    },
]
PRICES: Final = {
    "dedicated/coder": (2.5, 10.0),
    "dedicated/parrot": (0.05, 0.1),
    "inline/poet": (0.4, 1.6),
    "shared/guide": (0.15, 0.6),
}
TEXTS: Final = (
    "Debug this python function, it raises an IndexError",
    "Write a poem about the sea at night",
    "Translate this sentence into French please",
    "What should I see in Lisbon in two days?",
    "Refactor the parser so that it streams",
    "Write a short e-mail to my landlord about the heating",
    "Which museum in Vienna is worth a morning?",
    "How do I say good morning in Japanese?",
    "Find me a quiet hotel near the station",
    "Why is my SQL query slow?",
    "A bedtime story about a lighthouse",
    "hello there",
)


def write_page_config(folder: Path, providers: dict[str, ScriptedProvider]) -> Path:
    """Writes a configuration with four routes, prices and an endpoint that does not answer."""
    names = [*PRICES, "inline/parrot", "shared/polyglot"]
    entries: list[dict[str, Any]] = [
        {
            "model": name,
            "base_url": providers[name.partition("/")[0]].url,
            "provider_interface": "vllm",
            "access_key": "$FINGERPOST_TEST_KEY",
            "data_path": name.partition("/")[0],
            "default": name == "dedicated/parrot",
        }
        for name in names
    ]
    dead = f"http://127.0.0.1:{closed_port()}"
    entries.append({"model": "spare/parrot", "base_url": dead, "provider_interface": "vllm"})
    config = {
        "version": "v0.4.0",
        "model_providers": entries,
        "model_aliases": {
            "assistant": {"target": "auto"},
            "fast": {"target": "dedicated/parrot"},
        },
        "routing_preferences": ROUTES,
        "prices": {name: {"input": price[0], "output": price[1]} for name, price in PRICES.items()},
        "orchestrator": {"deadline_ms": 2000},
        "timeouts": TIMEOUTS,
    }
    file = folder / "gateway.yaml"
    file.write_text(json.dumps(config, indent=1))
    return file


def send(site: Site, text: str, model: str = "auto", session: str = "") -> None:
    """Sends one chat completion."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    headers = {"x-model-affinity": session} if session else {}
    site.send(json.dumps(body).encode(), headers=headers)


def send_all(site: Site) -> None:
    """Sends requests of every kind: routed, named, in sessions, with a fallback, refused."""
    for number, text in enumerate((*TEXTS, *TEXTS[:7])):
        send(site, text, session=f"chat-{number % 5}" if number % 3 == 0 else "")
    send(site, "hello", "fast")
    send(site, "hello", "nothing/there")
    for _ in range(4):
        site.ask("spare/parrot", fallbacks=["inline/parrot"])
