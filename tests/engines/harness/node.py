"""One engine process that lives like a pod: own address, own data directory, killed and started again at will.

What runs in it is any command line: valkey-server itself, or the operator's start script under the image's shell.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from redis import exceptions as refused
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.engines.harness.addresses import PORT
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.waiting import until

LOG_LINES_SHOWN: Final = 60
CALL_TIMEOUT_SECONDS: Final = 5.0


class NodeDied(Exception):
    """The process ended when it was expected to run; the message ends with its log."""


class NodeProcess:
    """A node. `command` tells, at every start, what to run; by default valkey-server with `options`.

    Args:
        name: what a pod would be called; given to the process as POD_NAME.
        binary: the engine.
        directory: the node's own; `data` below it survives restarts, `log` collects the output of all of them.
        address: its pod address (POD_IP, and NODE_ADDRESS for the wrappers).
        command: from the node to a command line; it sees the node's current address and directories.
        options: of the default command, such as `{"cluster-enabled": "yes"}`.
        env: added to the environment of the process, which is otherwise that of a pod: a PATH and the names above.
        restart_on_exit: start again whenever it ends by itself or is killed, as the kubelet does, until stopped.
    """

    def __init__(
        self,
        name: str,
        binary: EngineBinary,
        directory: Path,
        address: str,
        *,
        port: int = PORT,
        command: "Command | None" = None,
        options: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        restart_on_exit: bool = False,
        username: str | None = None,
        password: str | None = None,
    ) -> None:
        self.name = name
        self.binary = binary
        self.directory = directory
        self.data = directory / "data"
        self.address = address
        self.port = port
        self.command: Command = command or plain_server
        self.options = dict(options or {})
        self.env = dict(env or {})
        self.restart_on_exit = restart_on_exit
        self.username = username
        self.password = password
        self.starts = 0
        self.exit_status: int | None = None
        self._log = directory / "log"
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wanted = False
        self._clients: list[Redis] = []

    @property
    def running(self) -> bool:
        """True while the process exists (also when it is paused)."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Process id of the container's main process."""
        if self._process is None:
            raise NodeDied(f"{self.name} was not started")
        return self._process.pid

    async def start(self, *, ready: bool = True, address: str | None = None) -> None:
        """Start the process, at a new `address` if one is given; wait until it answers unless `ready` is False."""
        if self.running or self._wanted:
            raise RuntimeError(f"{self.name} runs already")
        if address is not None:
            self.address = address
        self._wanted = True
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keeper of {self.name}")
        if ready:
            await self.until_ready()

    async def stop(self, within: float = 30.0) -> None:
        """SIGTERM and wait, as the kubelet does; SIGKILL after `within` seconds. It does not come back by itself."""
        await self._end(signal.SIGTERM, within)

    async def kill(self) -> None:
        """SIGKILL. With `restart_on_exit` it comes back at once; else it is down when this returns."""
        process = self._process
        if process is None or process.returncode is not None:
            raise NodeDied(f"{self.name} does not run")
        if self.restart_on_exit:
            process.kill()
            await process.wait()
        else:
            await self._end(signal.SIGKILL, CALL_TIMEOUT_SECONDS)

    async def restart(self, *, address: str | None = None, ready: bool = True) -> None:
        """Stop, and start again on the same data; at a new address if one is given, like a pod that was re-created."""
        await self.stop()
        await self.start(address=address, ready=ready)

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        os.killpg(self.pid, signal.SIGCONT)

    def client(self) -> Redis:
        """A client of the current address with short time-outs, no retries and text replies; closed by `close`."""
        client = Redis(
            host=self.address,
            port=self.port,
            username=self.username,
            password=self.password,
            socket_timeout=CALL_TIMEOUT_SECONDS,
            socket_connect_timeout=CALL_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,  # who asks is of no interest, and telling it costs more than most questions
            protocol=2,
            decode_responses=True,
        )
        self._clients.append(client)
        return client

    async def call(self, *words: str | int) -> Any:
        """The reply to one command over a connection of its own, in RESP2's shapes, with text decoded."""
        async with self._asking() as client:
            return await client.execute_command(*words)  # type: ignore[no-untyped-call]

    async def calls(self, *commands: Sequence[str | int]) -> list[Any]:
        """The same for several commands at once; the first error answer is raised."""
        async with self._asking() as client:
            pipe = client.pipeline(transaction=False)
            for words in commands:
                pipe.execute_command(*words)
            return await pipe.execute()

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[Redis]:
        client = self.client()
        # By the generic path, so that no reply is reshaped by the library.
        client.response_callbacks.clear()
        try:
            yield client
        finally:
            self._clients.remove(client)
            await client.aclose()

    async def until_ready(self, within: float = 30.0) -> None:
        """Wait until it answers PING and has loaded its data; wanting a password counts as an answer.

        Raises:
            NodeDied: it ended and nothing starts it again.
            TimeoutError: it does not answer within `within` seconds.
        """
        await until(self._answers, f"{self.name} at {self.address} answers\n{self.log_end()}", within)

    async def until_exit(self, within: float = 30.0) -> int:
        """Wait for the current process to end by itself; its exit status (negative: the signal)."""
        process = self._process
        if process is None:
            raise NodeDied(f"{self.name} was not started")
        return await asyncio.wait_for(process.wait(), within)

    async def close(self) -> None:
        """End everything that belongs to the node; harmless if it is down already."""
        await self._end(signal.SIGKILL, CALL_TIMEOUT_SECONDS)
        for client in self._clients:
            await client.aclose()
        self._clients.clear()

    def log_end(self) -> str:
        """The last lines that the node printed, over all its starts."""
        if not self._log.exists():
            return f"({self.name} printed nothing)"
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])

    def _comes_back(self) -> bool:
        return self._wanted and self.restart_on_exit

    async def _answers(self) -> bool:
        if not self.running and not self._comes_back():
            raise NodeDied(f"{self.name} ended with status {self.exit_status}\n{self.log_end()}")
        try:
            return bool(await self.call("PING") == "PONG")
        except (refused.AuthenticationError, refused.NoPermissionError):
            return True
        except (refused.BusyLoadingError, refused.ConnectionError, refused.TimeoutError):
            return False

    async def _spawn(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": self.binary.search_path,
            "HOME": str(self.directory),
            "POD_NAME": self.name,
            "POD_IP": self.address,
            "NODE_ADDRESS": self.address,
            **self.env,
        }
        argv = [*PARENT_DEATH, *self.command(self)]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=self.data,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    async def _keep(self) -> None:
        """Note how the process ended, end what it left behind as the end of a container does, and start it again."""
        while self._process is not None:
            self.exit_status = await self._process.wait()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            if not self._comes_back():
                self._wanted = False
                return
            await self._spawn()
            if not self._comes_back():  # stopped while it was being started
                self._process.kill()

    async def _end(self, how: signal.Signals, within: float) -> None:
        self._wanted = False
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(how)
                if how is not signal.SIGKILL:  # a paused process acts on SIGKILL alone
                    os.killpg(self._process.pid, signal.SIGCONT)
            try:
                await asyncio.wait_for(self._process.wait(), within)
            except TimeoutError:
                self._process.kill()
        if self._keeper is not None:
            await self._keeper
            self._keeper = None


Command = Callable[[NodeProcess], Sequence[str]]

# The kernel kills the node when the test process dies, whichever way.
PARENT_DEATH: Final = (shutil.which("setpriv") or "setpriv", "--pdeathsig", "KILL", "--")


def plain_server(node: NodeProcess) -> list[str]:
    """valkey-server with the node's options, announcing the node's current address."""
    options = {
        "port": str(node.port),
        "dir": str(node.data),
        "protected-mode": "no",
        "save": "",
        "cluster-announce-ip": node.address,
        **node.options,
    }
    return node.binary.server_argv(*(word for name, value in options.items() for word in (f"--{name}", value)))
