"""One fused kernel for the selective scan on a CPU, in C++, built on first use with the compiler of the machine.

It works on 16 features (8 in float64) at a time, whose states and decays never leave the cache, and keeps between
the passes what the torch form keeps: the state before every chunk. No library but the C++ standard library is
needed, so that a build takes a second; the result lies in the user's cache folder, for this source and processor.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

log = logging.getLogger(__name__)

CHUNK_SIZE = 16
SMALL = 2**18
"""Elements of all states below which one thread does the work alone."""
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread", "-Wno-psabi", "-x", "c++", "-")

SOURCE = r"""
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

template <class R> struct Lanes;
template <> struct Lanes<float> {
  typedef float V __attribute__((vector_size(64)));
  typedef uint32_t I __attribute__((vector_size(64)));
  static constexpr float shift = 0x1.8p23f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f, highest = 88;
  static constexpr uint32_t mantissa = 23, one = 127u << 23;
  static constexpr int terms = 7;
};
template <> struct Lanes<double> {
  typedef double V __attribute__((vector_size(64)));
  typedef uint64_t I __attribute__((vector_size(64)));
  static constexpr double shift = 0x1.8p52, ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33, highest = 709;
  static constexpr uint64_t mantissa = 52, one = uint64_t(1023) << 52;
  static constexpr int terms = 13;
};
constexpr double LOWEST = -64;  // logarithms of decays from here on count as -inf, as in the torch form
constexpr double INVERSE_FACTORIAL[] = {1, 1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320,
    1. / 362880, 1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800};

// exp(x) = 2^n exp(r), |r| <= ln(2) / 2: adding a number whose last digit counts ones rounds to n; exp(r) by series.
template <class R> static inline typename Lanes<R>::V exponential(typename Lanes<R>::V x) {
  typedef Lanes<R> L;
  typedef typename L::V V;
  const V zero = {}, shifted = x * R(1.4426950408889634) + L::shift, n = shifted - L::shift;
  const V r = (x - n * L::ln2_high) - n * L::ln2_low;
  V p = zero + R(INVERSE_FACTORIAL[L::terms]);
  for (int k = L::terms - 1; k >= 0; --k) p = p * r + R(INVERSE_FACTORIAL[k]);
  p *= (V)(((typename L::I)shifted << L::mantissa) + L::one);
  p = x <= zero + R(LOWEST) ? zero : p;
  return x > zero + L::highest ? zero + R(__builtin_inf()) : p;
}

template <class R> struct Scan {
  typedef typename Lanes<R>::V V;
  static constexpr int64_t WIDTH = sizeof(V) / sizeof(R);
  int64_t batch, time, width, states, chunk, parts, threads;
  int64_t rates;  // elements of A from one row to the next, 0 where all rows share it

  static V load(const R* from, int64_t lanes) {
    V v = {};
    if (lanes == WIDTH) std::memcpy(&v, from, sizeof(V)); else std::memcpy(&v, from, lanes * sizeof(R));
    return v;
  }
  static void store(R* to, V v, int64_t lanes) {
    if (lanes == WIDTH) std::memcpy(to, &v, sizeof(V)); else std::memcpy(to, &v, lanes * sizeof(R));
  }
  static R total(V v) {
    R sum = 0;
    for (int64_t i = 0; i < WIDTH; ++i) sum += v[i];
    return sum;
  }

  // Rows of the batch and parts of the width, shared out among threads.
  template <class Work> void run(Work work) const {
    auto share = [&](int64_t first) {
      for (int64_t i = first; i < batch * parts; i += threads) work(i / parts, i % parts);
    };
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(share, i);
    share(0);
    for (auto& other : others) other.join();
  }
  template <class Work> void tiles(int64_t part, Work work) const {
    const int64_t count = (width + WIDTH - 1) / WIDTH;
    for (int64_t tile = count * part / parts; tile < count * (part + 1) / parts; ++tile)
      work(tile * WIDTH, std::min(WIDTH, width - tile * WIDTH));
  }

  // starts[0] is given; fills y and the other starts: before every chunk, and after the last step.
  void forward(const R* x, const R* dt, const R* B, const R* C, const R* A, R* y, R* starts) const {
    run([&](int64_t row, int64_t part) {
      std::vector<V> h(states), a(states);
      tiles(part, [&](int64_t d, int64_t lanes) {
        auto state = [&](int64_t i, int64_t n) { return starts + ((i * batch + row) * states + n) * width + d; };
        for (int64_t n = 0; n < states; ++n)
          h[n] = load(state(0, n), lanes), a[n] = load(A + row * rates + n * width + d, lanes);
        for (int64_t t = 0; t < time; ++t) {
          const int64_t at = row * time + t;
          const V step = load(dt + at * width + d, lanes), u = step * load(x + at * width + d, lanes);
          V out = {};
          for (int64_t n = 0; n < states; ++n) {
            h[n] = exponential<R>(step * a[n]) * h[n] + u * B[at * states + n];
            out += h[n] * C[at * states + n];
          }
          store(y + at * width + d, out, lanes);
          if ((t + 1) % chunk == 0 || t + 1 == time)
            for (int64_t n = 0; n < states; ++n) store(state(t / chunk + 1, n), h[n], lanes);
        }
      });
    });
  }

  // d_state goes in as the gradient of the last state and comes out as that of the first. d_A is [B N D], d_B and
  // d_C are [B parts T N]: a thread of its own sums each.
  void backward(const R* d_y, const R* x, const R* dt, const R* B, const R* C, const R* A, const R* starts, R* d_state,
                R* d_x, R* d_dt, R* d_B, R* d_C, R* d_A) const {
    run([&](int64_t row, int64_t part) {
      std::vector<V> h(states), r(states), a(states), d_a(states);
      std::vector<V> before(chunk * states), decay(chunk * states), for_B(chunk * states), for_C(chunk * states);
      for (int64_t start = (time - 1) / chunk * chunk; start >= 0; start -= chunk) {
        const int64_t length = std::min(chunk, time - start), first = row * time + start;
        std::fill(for_B.begin(), for_B.end(), V{});
        std::fill(for_C.begin(), for_C.end(), V{});
        tiles(part, [&](int64_t d, int64_t lanes) {
          auto place = [&](int64_t n) { return (row * states + n) * width + d; };
          const R* state = starts + start / chunk * batch * states * width;
          for (int64_t n = 0; n < states; ++n) {
            h[n] = load(state + place(n), lanes), a[n] = load(A + row * rates + n * width + d, lanes);
            r[n] = load(d_state + place(n), lanes), d_a[n] = load(d_A + place(n), lanes);
          }
          for (int64_t t = 0; t < length; ++t) {
            const int64_t at = first + t;
            const V step = load(dt + at * width + d, lanes), u = step * load(x + at * width + d, lanes);
            for (int64_t n = 0, i = t * states; n < states; ++n, ++i) {
              before[i] = h[n];
              decay[i] = exponential<R>(step * a[n]);
              h[n] = decay[i] * h[n] + u * B[at * states + n];
            }
          }
          for (int64_t t = length - 1; t >= 0; --t) {
            const int64_t at = first + t;
            const V step = load(dt + at * width + d, lanes), in = load(x + at * width + d, lanes), u = step * in;
            const V out = load(d_y + at * width + d, lanes);
            V d_u = {}, d_step = {};
            for (int64_t n = 0, i = t * states; n < states; ++n, ++i) {
              const R b = B[at * states + n];
              const V g = r[n] + out * C[at * states + n];
              for_C[i] += out * (decay[i] * before[i] + u * b);
              for_B[i] += g * u;
              d_u += g * b;
              r[n] = g * decay[i];
              const V q = r[n] * before[i];
              d_step += q * a[n];
              d_a[n] += q * step;
            }
            store(d_x + at * width + d, d_u * step, lanes);
            store(d_dt + at * width + d, d_u * in + d_step, lanes);
          }
          for (int64_t n = 0; n < states; ++n)
            store(d_state + place(n), r[n], lanes), store(d_A + place(n), d_a[n], lanes);
        });
        const int64_t target = ((row * parts + part) * time + start) * states;
        for (int64_t i = 0; i < length * states; ++i)
          d_B[target + i] = total(for_B[i]), d_C[target + i] = total(for_C[i]);
      }
    });
  }
};

#define EXPORT(R, name) \
  extern "C" void forward_##name(const int64_t* s, R** p) { \
    Scan<R>{s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]}.forward(p[0], p[1], p[2], p[3], p[4], p[5], p[6]); \
  } \
  extern "C" void backward_##name(const int64_t* s, R** p) { \
    Scan<R>{s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]} \
        .backward(p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12]); \
  }
EXPORT(float, float32)
EXPORT(double, float64)
"""


@functools.cache
def why_not() -> str | None:
    """Why the kernel cannot run here, or None. Builds it on the first call, once per machine."""
    try:
        _library()
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("selective_scan runs on backend torch, three to four times slower than its kernel: %s", error)
        return str(error)
    return None


class CppKernel:
    """The scan in one pass over the sequence. Takes and gives what the torch form does, the same up to rounding."""

    @staticmethod
    def forward(
        x: Tensor, dt: Tensor, B: Tensor, C: Tensor, a: Tensor, state: Tensor, chunk_size: int | None
    ) -> tuple[Tensor, Tensor]:
        """Outputs, and the states before every chunk and after the last."""
        sizes = _Sizes(x, a, chunk_size)
        y, starts = torch.empty_like(x), x.new_empty(sizes.num_chunks + 1, *state.shape)
        starts[0] = state
        _call("forward", sizes, x, dt, B, C, a, y, starts)
        return y, starts

    @staticmethod
    def backward(
        d_y: Tensor,
        d_state: Tensor,
        x: Tensor,
        dt: Tensor,
        B: Tensor,
        C: Tensor,
        a: Tensor,
        starts: Tensor,
        chunk_size: int | None,
    ) -> tuple[Tensor, ...]:
        """Gradients of x, dt, B, C, A, at its shape, and the state [B N D]."""
        sizes = _Sizes(x, a, chunk_size)
        d_x, d_dt, d_a, d_state = torch.empty_like(x), torch.empty_like(x), torch.zeros_like(d_state), d_state.clone()
        d_B, d_C = (x.new_empty(x.shape[0], sizes.parts, *B.shape[1:]) for _ in range(2))
        _call("backward", sizes, d_y, x, dt, B, C, a, starts, d_state, d_x, d_dt, d_B, d_C, d_a)
        d_a = d_a if len(a) > 1 else d_a.sum(0, keepdim=True)
        return d_x, d_dt, d_B.sum(1), d_C.sum(1), d_a, d_state


class _Sizes:
    """Sizes of a call, in the order of the fields of `Scan`: rows are shared among threads, and parts of the width."""

    def __init__(self, x: Tensor, a: Tensor, chunk_size: int | None) -> None:
        (batch, time, width), states = x.shape, a.shape[1]
        threads = torch.get_num_threads() if x.numel() * states > SMALL else 1
        chunk = CHUNK_SIZE if chunk_size is None else chunk_size
        self.parts = max(1, min(-(-threads // batch), width // 16))
        self.num_chunks = -(-time // chunk)
        rates = states * width if len(a) > 1 else 0
        self.values = (batch, time, width, states, chunk, self.parts, threads, rates)


def _call(name: str, sizes: _Sizes, *tensors: Tensor) -> None:
    assert all(t.is_contiguous() and t.dtype == tensors[0].dtype for t in tensors)
    function = getattr(_library(), f"{name}_{str(tensors[0].dtype).removeprefix('torch.')}")
    pointers = (ctypes.c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
    function((ctypes.c_int64 * len(sizes.values))(*sizes.values), pointers)


@functools.cache
def _library() -> ctypes.CDLL:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise OSError("no C++ compiler found (CXX, c++, g++, clang++); install one, such as g++")
    key = hashlib.sha256("\n".join((SOURCE, compiler, *FLAGS, _processor())).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybrids"
    path = folder / f"selective_scan-{key}.so"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _build(compiler, path)
    return ctypes.CDLL(str(path))


def _processor() -> str:
    """A cache folder may be shared by machines; code for one processor need not run on another."""
    info = Path("/proc/cpuinfo")
    flags = [line for line in info.read_text().splitlines() if line.startswith("flags")] if info.exists() else []
    return f"{platform.system()} {platform.machine()} {platform.processor()} {flags[:1]}"


def _build(compiler: str, path: Path) -> None:
    """Into a file of its own, moved in place when complete: several processes may build at once, or be killed."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [*compiler.split(), *FLAGS, "-o", str(made)]
        result = subprocess.run(command, input=SOURCE, capture_output=True, text=True, timeout=120)
        if result.returncode:
            raise OSError(f"{compiler} cannot build it: {result.stderr.strip()[:300]}")
        made.replace(path)
    log.info("built the kernel of selective_scan in %.1f s: %s", time.perf_counter() - start, path)
