"""Ports over Serve handles; the only module that awaits a handle."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, cast

from ray.exceptions import RayActorError
from ray.serve.exceptions import RequestCancelledError
from ray.serve.handle import DeploymentHandle

from deployments.frame import (
    UnreadableFrameError,
    decode_chunk,
    decode_reply,
    encode_request,
)
from serve_app.conversations.shared import SAVE_S
from serve_app.domain import Binding, ModelRef, Question, Reason, Scores, Unavailable
from serve_app.exchange import (
    FaultKind,
    RestReport,
    StreamBrokenError,
    UpstreamFault,
    UpstreamReply,
    UpstreamRequest,
)
from serve_app.ports import Upstream

_log = logging.getLogger("fingerpost")

_GRACE_S: Final = 5.0
"""Seconds beyond a request's own deadline after which a hop counts as dead."""
_HOP_SETTING: Final = (
    "the limit of Serve's gRPC hop; start Serve with the environment of configs/serve.env"
)
_REPLICA_WAIT_S: Final = 5.0
"""How long the second try of a request whose replica died waits for one that answers."""
_PROBE_S: Final = 1.0
_PROBE_PAUSE_S: Final = 0.1
_SAVE_BYTES: Final = 8 << 20
"""The most bytes of values in one call; a larger value has a call of its own."""


class DataPaths:
    """Upstream by provider: its own deployment where it has one, else the shared one.

    Inline exchanges run in the ingress. So do exchanges that a provider client refuses because
    it has not read the request's configuration yet, or no longer keeps it.
    """

    def __init__(self, paths: Mapping[str, Upstream], shared: Upstream, inline: Upstream) -> None:
        self._paths = dict(paths)
        self._shared = shared
        self._inline = inline

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        """Opens the exchange on the provider's data path."""
        if request.inline:
            return await self._inline.open(request)
        reply = await self._paths.get(request.provider, self._shared).open(request)
        if isinstance(reply, UpstreamFault) and reply.kind is FaultKind.STALE_POLICY:
            return await self._inline.open(request)
        return reply


class HandleUpstream:
    """Upstream over the hop to a provider client's deployment."""

    def __init__(self, handle: DeploymentHandle, max_bytes: int | None) -> None:
        self._max_bytes = max_bytes
        self._unary = handle.unary
        self._stream = handle.options(stream=True).stream
        self._policy = handle.policy
        self.has_answered = False
        """True once a replica has answered anything."""

    async def open(self, request: UpstreamRequest) -> UpstreamReply | UpstreamFault:
        """The answer of the provider client; faults of the hop itself are values too."""
        if self._max_bytes is not None and len(request.body) > self._max_bytes:
            detail = f"the request body is larger than {self._max_bytes} bytes ({_HOP_SETTING})"
            return UpstreamFault(FaultKind.TOO_LARGE, detail)
        frame = encode_request(request)
        limit_s = request.deadline_s if request.attempt_s is None else request.attempt_s
        try:
            async with asyncio.timeout(limit_s + _GRACE_S):
                try:
                    return await self._open(request, frame)
                except RayActorError as error:
                    _log.warning("a replica for %s died: %s", request.provider, error)
                await self.wait_for_replica(_REPLICA_WAIT_S)
                return await self._open(request, frame)
        except TimeoutError:
            return UpstreamFault(FaultKind.TIMEOUT, "the provider client did not answer in time")
        except UnreadableFrameError:
            return UpstreamFault(FaultKind.HOP, "the provider client runs another version")
        except RayActorError as error:
            _log.warning("a replica for %s died, too: %s", request.provider, error)
            return UpstreamFault(FaultKind.HOP, "the provider client died twice")
        except Exception:  # noqa: BLE001 - the next candidate may answer
            _log.exception("the hop to %s failed", request.provider)
            return UpstreamFault(FaultKind.HOP, "the provider client failed")

    async def wait_for_replica(self, limit_s: float) -> bool:
        """Waits until a replica answers a question that costs nothing; False if none does.

        Serve goes on routing to a replica that died until its controller knows, and to one whose
        port is not open yet.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + limit_s
        while (left_s := ends_at - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left_s, _PROBE_S)):
                    await _awaited(self._policy.remote())
            except Exception:  # noqa: BLE001 - whatever it is, the next probe may find a replica
                await asyncio.sleep(min(left_s, _PROBE_PAUSE_S))
            else:
                self.has_answered = True
                return True
        return False

    async def _open(self, request: UpstreamRequest, frame: bytes) -> UpstreamReply | UpstreamFault:
        if not request.stream:
            return await self._open_unary(frame)
        ends_at = asyncio.get_running_loop().time() + request.deadline_s
        return await self._open_stream(frame, ends_at + _GRACE_S)

    async def _open_unary(self, frame: bytes) -> UpstreamReply | UpstreamFault:
        response = self._unary.remote(frame)
        try:
            answer = await response
        except asyncio.CancelledError:
            response.cancel()
            raise
        return decode_reply(answer)[0]

    async def _open_stream(self, frame: bytes, ends_at: float) -> UpstreamReply | UpstreamFault:
        items = _Items(self._stream.remote(frame), ends_at)
        try:
            first = await items.next_item()
            reply, streamed = decode_reply(first)
        except BaseException:
            await items.aclose()
            raise
        if isinstance(reply, UpstreamFault) or not streamed:
            await items.aclose()
            return reply
        return UpstreamReply(reply.status, reply.headers, items)


class _Items:
    """The items of a streamed answer as its chunks; cancels the hop after its deadline."""

    def __init__(self, generator: Any, ends_at: float) -> None:  # noqa: ANN401 - untyped handles
        self._generator = generator
        self._late = False
        self._over = False
        self._timer = asyncio.get_running_loop().call_at(ends_at, self._expire)

    def _expire(self) -> None:
        self._late = True
        self._generator.cancel()

    def __aiter__(self) -> Self:
        return self

    async def next_item(self) -> bytes:
        return cast("bytes", await self._generator.__anext__())

    async def __anext__(self) -> bytes:
        try:
            return decode_chunk(await self.next_item())
        except StopAsyncIteration:
            self._over = True
            self._timer.cancel()
            raise
        except (RayActorError, RequestCancelledError) as error:
            kind = FaultKind.TIMEOUT if self._late else FaultKind.BROKEN
            fault = UpstreamFault(kind, "the provider client stopped in the middle of its answer")
            raise StreamBrokenError(fault) from error

    async def aclose(self) -> None:
        self._timer.cancel()
        if not self._over:
            self._over = True
            self._generator.cancel()


class HandleStore:
    """AffinityStore over its deployment; failures raise, and the caller sets the deadline."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._get = handle.get
        self._bind = handle.bind

    async def get(self, key: str) -> Binding | None:
        """The live binding of a session."""
        return cast("Binding | None", await _awaited(self._get.remote(key)))

    async def bind(self, key: str, binding: Binding, *, instead_of: ModelRef | None) -> bool:
        """Put if absent, or, with ``instead_of``, swap if that model is bound; True if stored."""
        return bool(await _awaited(self._bind.remote(key, binding, instead_of)))


class HandleRests:
    """The board of resting endpoints in the Affinity deployment; failures raise."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._share = handle.share_rests
        self._claim = handle.claim_probe

    async def share(self, own: Sequence[RestReport]) -> list[RestReport]:
        """Puts up what this replica has found out. Returns all that is known now."""
        return cast("list[RestReport]", await _awaited(self._share.remote(list(own))))

    async def claim(self, endpoint: str, for_s: float) -> bool:
        """True if no replica has claimed the endpoint; then it is the caller's for that long."""
        return bool(await _awaited(self._claim.remote(endpoint, for_s)))


class HandleConversations:
    """The answers that the Affinity deployment keeps; failures raise, the caller sets deadlines.

    One call saves at a time: what is to be saved in the meantime goes with the next one, because
    a call costs as much CPU as the rest of a request. Each ``save`` returns once its value is kept.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle
        self._next: dict[str, bytes] = {}
        """What the next call saves."""
        self._next_done: asyncio.Future[None] | None = None
        self._saving: asyncio.Task[None] | None = None

    async def load(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of these keys, None where there is none; reading extends their lives."""
        values = await _awaited(self._handle.load_values.remote(list(keys)))
        return cast("list[bytes | None]", values)

    async def save(self, key: str, value: bytes) -> None:
        """Keeps a value, in place of an earlier one."""
        loop = asyncio.get_running_loop()
        if self._next_done is None:
            self._next_done = loop.create_future()
        self._next[key] = value
        done = self._next_done
        if self._saving is None:
            self._saving = loop.create_task(self._save_all())
        await asyncio.shield(done)  # others wait for it, too

    async def _save_all(self) -> None:
        """Saves until nothing is left to be saved."""
        try:
            while self._next_done is not None:
                values, self._next = self._next, {}
                done, self._next_done = self._next_done, None
                try:
                    async with asyncio.timeout(SAVE_S):
                        await self._save_values(values)
                except Exception as error:  # noqa: BLE001 - those who wait get it
                    done.set_exception(error)
                    done.exception()  # all who waited for it may have been given up
                else:
                    done.set_result(None)
        finally:
            self._saving = None

    async def _save_values(self, values: dict[str, bytes]) -> None:
        """Saves in calls that a hop can carry."""
        part: dict[str, bytes] = {}
        size = 0
        for key, value in values.items():
            if part and size + len(value) > _SAVE_BYTES:
                await _awaited(self._handle.save_values.remote(part))
                part, size = {}, 0
            part[key] = value
            size += len(value)
        await _awaited(self._handle.save_values.remote(part))

    async def restore(self, key: str, value: bytes) -> None:
        """As ``save``, unless there is a longer value."""
        await _awaited(self._handle.restore_value.remote(key, value))

    async def delete(self, keys: Sequence[str]) -> int:
        """Forgets the values of these keys. Returns how many there were."""
        return int(await _awaited(self._handle.delete_values.remote(list(keys))))

    async def life(self) -> tuple[str, float]:
        """The name of the replica's process, and its age in seconds."""
        return cast("tuple[str, float]", await _awaited(self._handle.life.remote()))


async def _awaited(response: Any) -> Any:  # noqa: ANN401 - untyped handles
    """Awaits the answer; cancelling the wait cancels the call."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


class HandleOrchestrator:
    """Orchestrator over its deployment; the guard around it sets the deadline."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._score = handle.score

    async def score(self, question: Question) -> Scores | Unavailable:
        """The orchestrator's scores, or why there are none."""
        try:
            return cast("Scores | Unavailable", await _awaited(self._score.remote(question)))
        except Exception as error:  # noqa: BLE001 - the request goes on without it
            return Unavailable(Reason.ORCHESTRATOR_ERROR, f"its replica failed: {_name(error)}")


def _name(error: Exception) -> str:
    """The class of the error, or of the cause that Ray wraps."""
    return type(getattr(error, "cause", None) or error).__name__
