"""A small policy for tests of the training."""

from serve_app.domain import Route, Turn
from training.data import Policy, Talk

_ROUTES = (
    Route("bake_bread", "doughs, ovens, sourdough", ()),
    Route("repair_bike", "tyres, brakes and gears", ()),
    Route("plan_trip", "where to travel and how to get there", ()),
)
_SAID = {
    0: ("my loaf is flat", "how long does rye rise", "can I freeze dough", "starter smells odd"),
    1: ("chain slips uphill", "flat again", "which pads fit a disc brake", "wheel wobbles"),
    2: ("night train to Vienna?", "three days in Porto", "ferry or plane", "is May good for Rome"),
    -1: ("hello", "thanks a lot", "what is 7 times 8", "who won yesterday"),
}

POLICY = Policy(
    "e01",
    _ROUTES,
    tuple((Route(route.name, route.name.replace("_", " "), ()),) for route in _ROUTES),
    tuple(
        Talk((Turn("user", text),), route, "en") for route, texts in _SAID.items() for text in texts
    ),
)
