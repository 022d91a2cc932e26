"""The same training steps in gpugrad, PyTorch, JAX, HIPS autograd, PyDyNet and (for overheads) bare NumPy."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .workloads import CHAIN, LENET_BATCH, MLPS, RATE
from .workloads import TransformerSizes as Sizes

Step = Callable[[], Any]


def _mlp_data(name: str) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    sizes, batch = MLPS[name]
    rng = np.random.default_rng(0)
    return sizes, rng.standard_normal((batch, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], batch)


def _lenet_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((LENET_BATCH, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, LENET_BATCH)


def _transformer_data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, Sizes.vocabulary, (Sizes.batch, Sizes.length + 1))
    return np.ascontiguousarray(tokens[:, :-1]), np.ascontiguousarray(tokens[:, 1:]).reshape(-1)


class Peer:
    version = ""

    def warm(self, step: Step) -> float:
        """Seconds until a new step has run."""
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    def time(self, step: Step, count: int) -> list[float]:
        """Seconds that a step takes, several times."""
        times = []
        for _ in range(count):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        return times

    def check(self) -> None:
        """Raise an error if nothing more can be run in this process."""

    def build(self, workload: str) -> Step | None:
        """A function that runs one step of the workload; None if this peer has no such thing."""
        if workload in MLPS:
            return self.mlp(workload)
        return {"lenet": self.lenet, "transformer": self.transformer, "chain": self.chain}[workload]()

    def mlp(self, name: str) -> Step | None:
        return None

    def lenet(self) -> Step | None:
        return None

    def transformer(self) -> Step | None:
        return None

    def chain(self) -> Step | None:
        return None


class TorchLike(Peer):
    """gpugrad and PyTorch run this very code."""

    lib: Any
    device = "cpu"
    adam_options: dict[str, Any] = {}

    def _trainer(self, model: Any, x: np.ndarray, y: np.ndarray) -> Step:
        lib = self.lib
        model = model.to(self.device)
        inputs, targets = lib.from_numpy(x).to(self.device), lib.from_numpy(y).to(self.device)
        optimizer = lib.optim.Adam(model.parameters(), lr=RATE, **self.adam_options)
        loss_function = lib.nn.CrossEntropyLoss()
        forward = self._forward(lambda inputs, targets: loss_function(model(inputs), targets))

        def step(inputs: Any, targets: Any) -> None:
            optimizer.zero_grad()
            forward(inputs, targets).backward()
            optimizer.step()

        return self._step(step, inputs, targets)

    def _forward(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What computes the loss."""
        return function

    def _step(self, step: Callable[..., Any], inputs: Any, targets: Any) -> Step:
        """What runs a step."""
        return lambda: step(inputs, targets)

    def mlp(self, name: str) -> Step:
        nn = self.lib.nn
        sizes, x, y = _mlp_data(name)
        layers: list[Any] = []
        for n_in, n_out in itertools.pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        return self._trainer(nn.Sequential(*layers[:-1]), x, y)

    def lenet(self) -> Step:
        nn = self.lib.nn
        model = nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )
        return self._trainer(model, *_lenet_data())

    def transformer(self) -> Step:
        return self._trainer(_transformer(self.lib), *_transformer_data())

    def chain(self) -> Step:
        lib = self.lib
        x = lib.ones(4, requires_grad=True)
        w = lib.ones(4)
        seed = lib.ones(4)

        def step() -> None:
            y = x
            for _ in range(CHAIN):
                y = y * w
            y.backward(seed)
            x.grad = None

        return step


def _transformer(lib: Any) -> Any:
    nn = lib.nn

    class LanguageModel(nn.Module):
        """The next token at each place; (N, L) to (N L, vocabulary)."""

        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(Sizes.vocabulary, Sizes.width)
            self.places = nn.Parameter(lib.zeros(Sizes.length, Sizes.width))
            sizes = Sizes.width, Sizes.heads, Sizes.hidden
            layer = nn.TransformerEncoderLayer(*sizes, 0.0, "gelu", batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, Sizes.layers, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(Sizes.width)
            self.head = nn.Linear(Sizes.width, Sizes.vocabulary)
            self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(Sizes.length))

        def forward(self, tokens: Any) -> Any:
            h = self.layers(self.tokens(tokens) + self.places, mask=self.mask, is_causal=True)
            return self.head(self.norm(h)).reshape(-1, Sizes.vocabulary)

    return LanguageModel()


class Gpugrad(TorchLike):
    def __init__(self, threads: int):
        import gpugrad
        import gpugrad.nn
        import gpugrad.optim

        gpugrad.set_num_threads(threads)
        self.lib = gpugrad
        self.version = gpugrad.__version__


class Torch(TorchLike):
    def __init__(self, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.lib = torch
        self.version = torch.__version__


def _he(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)


def _mlp_parameters(sizes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    pairs = itertools.pairwise(sizes)
    return [p for n_in, n_out in pairs for p in (_he(rng, n_in, n_out), np.zeros(n_out, np.float32))]


class Jax(Peer):
    waits = True  # for each step, which costs nothing on a CPU

    def __init__(self, threads: int):
        import jax

        self.jax = jax
        self.version = jax.__version__

    def _trainer(self, forward: Callable[..., Any], parameters: list[Any], x: np.ndarray, y: np.ndarray) -> Step:
        jax = self.jax
        jnp = jax.numpy

        def loss(params: Any, x: Any, y: Any) -> Any:
            logits = forward(params, x)
            return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1).mean()

        def update(state: Any, x: Any, y: Any) -> Any:
            params, m, v, t = state
            grads = jax.grad(loss)(params, x, y)
            t = t + 1
            m = [0.9 * a + 0.1 * g for a, g in zip(m, grads, strict=True)]
            v = [0.999 * a + 0.001 * g * g for a, g in zip(v, grads, strict=True)]
            rate = RATE / (1 - 0.9**t)
            scale = jnp.sqrt(1 - 0.999**t)
            params = [p - rate * a / (jnp.sqrt(b) / scale + 1e-8) for p, a, b in zip(params, m, v, strict=True)]
            return params, m, v, t

        compiled = jax.jit(update, donate_argnums=0)
        params = [jnp.asarray(p) for p in parameters]
        state = [params, [jnp.zeros_like(p) for p in params], [jnp.zeros_like(p) for p in params], jnp.float32(0)]
        inputs, targets = jnp.asarray(x), jnp.asarray(y)
        self.state = state

        def step() -> None:
            state[:] = compiled(tuple(state), inputs, targets)
            if self.waits:
                jax.block_until_ready(state)

        return step

    def mlp(self, name: str) -> Step:
        jax = self.jax
        sizes, x, y = _mlp_data(name)

        def forward(params: Any, h: Any) -> Any:
            for k in range(0, len(params), 2):
                h = h @ params[k] + params[k + 1]
                h = jax.nn.relu(h) if k + 2 < len(params) else h
            return h

        return self._trainer(forward, _mlp_parameters(sizes), x, y)

    def lenet(self) -> Step:
        jax = self.jax
        rng = np.random.default_rng(1)
        shapes = [(5, 5, 1, 6), (6,), (5, 5, 6, 16), (16,), (400, 120), (120,), (120, 84), (84,), (84, 10), (10,)]
        parameters = [_he(rng, *s) if len(s) > 1 else np.zeros(s, np.float32) for s in shapes]

        def convolve(h: Any, w: Any, b: Any, padding: str) -> Any:
            h = jax.lax.conv_general_dilated(h, w, (1, 1), padding, dimension_numbers=("NCHW", "HWIO", "NCHW"))
            h = jax.nn.relu(h + b[None, :, None, None])
            return jax.lax.reduce_window(h, -np.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

        def forward(p: Any, x: Any) -> Any:
            h = convolve(convolve(x, p[0], p[1], "SAME"), p[2], p[3], "VALID").reshape(x.shape[0], -1)
            h = jax.nn.relu(h @ p[4] + p[5])
            h = jax.nn.relu(h @ p[6] + p[7])
            return h @ p[8] + p[9]

        return self._trainer(forward, parameters, *_lenet_data())

    def transformer(self) -> Step:
        jax = self.jax
        jnp = jax.numpy
        rng = np.random.default_rng(1)
        width, hidden, heads = Sizes.width, Sizes.hidden, Sizes.heads

        def norm() -> list[np.ndarray]:
            return [np.ones(width, np.float32), np.zeros(width, np.float32)]

        def linear(n_in: int, n_out: int) -> list[np.ndarray]:
            return [_he(rng, n_in, n_out), np.zeros(n_out, np.float32)]

        parameters = [_he(rng, Sizes.vocabulary, width), np.zeros((Sizes.length, width), np.float32)]
        for _ in range(Sizes.layers):
            parameters += [*norm(), *linear(width, 3 * width), *linear(width, width)]
            parameters += [*norm(), *linear(width, hidden), *linear(hidden, width)]
        parameters += [*norm(), *linear(width, Sizes.vocabulary)]

        def normalize(h: Any, weight: Any, bias: Any) -> Any:
            centred = h - h.mean(-1, keepdims=True)
            return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * weight + bias

        def forward(p: Any, x: Any) -> Any:
            h = p[0][x] + p[1]
            split = (*x.shape, heads, width // heads)
            for k in range(2, 2 + 12 * Sizes.layers, 12):
                q, key, v = jnp.split(normalize(h, *p[k : k + 2]) @ p[k + 2] + p[k + 3], 3, -1)
                q, key, v = q.reshape(split), key.reshape(split), v.reshape(split)
                attended = jax.nn.dot_product_attention(q, key, v, is_causal=True)
                h = h + attended.reshape(h.shape) @ p[k + 4] + p[k + 5]
                inner = jax.nn.gelu(normalize(h, *p[k + 6 : k + 8]) @ p[k + 8] + p[k + 9], approximate=False)
                h = h + inner @ p[k + 10] + p[k + 11]
            return (normalize(h, *p[-4:-2]) @ p[-2] + p[-1]).reshape(-1, Sizes.vocabulary)

        return self._trainer(forward, parameters, *_transformer_data())


class Autograd(Peer):
    def __init__(self, threads: int):
        import autograd

        self.autograd = autograd
        from importlib.metadata import version

        self.version = version("autograd")

    def mlp(self, name: str) -> Step:
        import autograd.numpy as anp

        sizes, x, y = _mlp_data(name)
        params = _mlp_parameters(sizes)
        rows = np.arange(len(y))

        def loss(params: Any) -> Any:
            h = x
            for k in range(0, len(params), 2):
                h = anp.dot(h, params[k]) + params[k + 1]
                h = anp.maximum(h, 0) if k + 2 < len(params) else h
            h = h - anp.max(h, axis=1, keepdims=True)
            return -anp.mean((h - anp.log(anp.sum(anp.exp(h), axis=1, keepdims=True)))[rows, y])

        gradient = self.autograd.grad(loss)
        m, v = [np.zeros_like(p) for p in params], [np.zeros_like(p) for p in params]
        count = [0]

        def step() -> None:
            grads = gradient(params)
            count[0] += 1
            t = count[0]
            for p, g, a, b in zip(params, grads, m, v, strict=True):
                a += 0.1 * (g - a)
                b += 0.001 * (g * g - b)
                p -= RATE / (1 - 0.9**t) * a / (np.sqrt(b) / np.sqrt(1 - 0.999**t) + 1e-8)

        return step

    def chain(self) -> Step:
        import autograd.numpy as anp

        w = np.ones(4, np.float32)

        def forward(x: Any) -> Any:
            for _ in range(CHAIN):
                x = x * w
            return anp.sum(x)

        gradient = self.autograd.grad(forward)
        x = np.ones(4, np.float32)
        return lambda: gradient(x)


class PyDyNet(Peer):
    # Its chain is left out: a step takes 18 s, since its cost grows with the square of the length.
    def __init__(self, threads: int):
        import pydynet
        import pydynet.nn
        import pydynet.optim

        self.lib = pydynet
        from importlib.metadata import version

        self.version = version("pydynet")

    def _trainer(self, model: Any, x: np.ndarray, y: np.ndarray) -> Step:
        lib = self.lib
        inputs = lib.Tensor(x, dtype=np.float32)
        optimizer = lib.optim.Adam(list(model.parameters()), lr=RATE)

        def step() -> None:
            optimizer.zero_grad()
            lib.nn.functional.cross_entropy_loss(model(inputs), y).backward()
            optimizer.step()

        return step

    def _sequential(self, layers: list[Any]) -> Any:
        return self.lib.nn.Sequential(*layers)

    def mlp(self, name: str) -> Step:
        nn = self.lib.nn
        sizes, x, y = _mlp_data(name)
        layers: list[Any] = []
        for n_in, n_out in itertools.pairwise(sizes):
            layers += [nn.Linear(n_in, n_out, dtype=np.float32), nn.ReLU()]
        return self._trainer(self._sequential(layers[:-1]), x, y)


class NumPy(Peer):
    """The NumPy calls that the chain makes, and nothing else."""

    def __init__(self, threads: int):
        self.version = np.__version__

    def chain(self) -> Step:
        w = np.ones(4, np.float32)

        def step() -> None:
            y = w
            for _ in range(2 * CHAIN):
                y = np.multiply(y, w)

        return step


PEERS: dict[str, type[Peer]] = {
    "gpugrad": Gpugrad,
    "torch": Torch,
    "jax": Jax,
    "autograd": Autograd,
    "pydynet": PyDyNet,
    "numpy": NumPy,
}
