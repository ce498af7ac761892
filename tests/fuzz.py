"""Damaged images and token files by the thousand: a right answer or one sentence of quadtok's own, whatever comes.

    python tests/fuzz.py --images 100000 --tokens 20000 --seed 1 --jobs 2
    python tests/fuzz.py --seed 1 --case images:4711      # one case again

A case is a function of (kind, seed, number) and of the sound files in `fuzz_seeds`, which depend on the encoders that
are installed. Cases run in processes of their own, so that a crash, a hang, words on stdout or stderr and the memory
are seen, and laid at the door of their case; its input is saved. tests/test_fuzz.py runs a few hundred.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path

TIME_LIMIT = 20.0  # seconds a case, the first one's preparation aside
START_LIMIT = 120.0
MEMORY_LIMIT = 512 << 20  # bytes that the resident memory may grow by while a case runs
ADDRESS_LIMIT = 4 << 30  # bytes of address space beyond the worker's own: where a request is refused by the system
MAX_PIXELS = 200_000  # of a damaged image
LONGEST_SENTENCE = 500
SHOWN = 30  # kinds of outcome in a report


class Images:
    """Damaged images: refused in one sentence, or decoded to RGB of the promised size, twice the same."""

    def __init__(self):
        import fuzz_seeds

        self.seeds = fuzz_seeds.image_seeds()
        for data in self.seeds.values():  # what is imported and set up at first use is not the first case's
            self.check(data, {"exif": True, "draft": False})

    def make(self, rng):
        """(how it was made, its bytes, what `check` is to know)."""
        import fuzz_mutations

        how, data = fuzz_mutations.damaged_image(self.seeds, rng)
        return how, data, {"exif": rng.random() < 0.8, "draft": rng.random() < 0.3}

    def check(self, data, known):
        """What came of it, in a few words."""
        from quadtok.errors import ImageError
        from quadtok.images import decode_image, draft_for

        draft = draft_for(8, 8, "crop") if known["draft"] else None
        options = {"max_pixels": MAX_PIXELS, "exif": known["exif"], "draft": draft}
        try:
            read = decode_image(data, "x", **options)
        except ImageError as problem:
            return _refusal(problem, "x: ")
        image = read.image
        assert image.mode == "RGB", f"mode {image.mode}"
        assert 0 < image.width * image.height <= MAX_PIXELS, f"size {image.size}"
        pixels = image.tobytes()
        assert len(pixels) == 3 * image.width * image.height, f"{len(pixels)} bytes of {image.size}"
        again = decode_image(data, "x", **options).image.tobytes()
        assert pixels == again, "two readings differ: memory that nobody wrote"
        return f"decoded {read.format}"


class Tokens:
    """Damaged token files: refused in one sentence, or what one of the originals holds; forged ones at least tile."""

    def __init__(self):
        import fuzz_seeds
        from quadtok.storage.token_file import decode_tokens

        self.seeds = fuzz_seeds.token_seeds()
        self.whole = {name: decode_tokens(data) for name, data in self.seeds.items()}

    def make(self, rng):
        import fuzz_mutations

        if rng.random() < 0.25:
            how, data = fuzz_mutations.forged_tokens(self.seeds, rng)
            return f"forged: {how}", data, None
        return fuzz_mutations.damaged_tokens(self.seeds, rng)

    def check(self, data, parents):
        from quadtok.errors import TokenFileError
        from quadtok.storage.content import describe_tokens
        from quadtok.storage.token_file import decode_tokens

        try:
            tokens = decode_tokens(data)
        except TokenFileError as problem:
            return _refusal(problem, "")
        describe_tokens(tokens)
        if parents is None:
            tokens.plan.check_tiling()
            return "loaded, forged"
        assert any(_same(tokens, self.whole[name]) for name in parents), "loads as something else than it was"
        return "loaded, as it was"


def _same(one, other):
    import torch

    def tensors(tokens):
        plan = [tokens.plan.left, tokens.plan.top, tokens.plan.scale]
        return [*plan, *(tokens.saliency or []), *([] if tokens.patches is None else [tokens.patches])]

    pairs = list(zip(tensors(one), tensors(other), strict=False))
    alike = len(tensors(one)) == len(tensors(other)) and all(torch.equal(*pair) for pair in pairs)
    return alike and one.plan.spec == other.plan.spec and one.metadata == other.metadata


def _refusal(problem, prefix):
    sentence = str(problem)
    assert sentence.startswith(prefix) and sentence.isprintable(), f"no plain sentence: {sentence!r}"
    assert len(sentence) <= LONGEST_SENTENCE, f"{len(sentence)} characters: {sentence}"
    cause = problem
    while cause is not None:
        assert not isinstance(cause, MemoryError), f"it asked for more memory than {ADDRESS_LIMIT} bytes"
        cause = cause.__cause__ or cause.__context__
    return "refused: " + re.sub(r"\d+", "N", sentence.removeprefix(prefix))[:90]


KINDS = {"images": "fuzz:Images", "tokens": "fuzz:Tokens"}


# One worker process.


@dataclass(frozen=True)
class Outcome:
    words: str
    failure: str | None = None
    grown: int = 0  # bytes
    seconds: float = 0.0


def _work(pipe, task, seed):
    """Answer each number with its outcome, until the pipe closes."""
    with tempfile.TemporaryFile() as said:
        for descriptor in (1, 2):
            os.dup2(said.fileno(), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1) for descriptor in (1, 2))
        warnings.simplefilter("always")
        subject = subject_of(task)
        size = _memory("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_LIMIT, resource.RLIM_INFINITY))
        os.ftruncate(said.fileno(), 0)
        pipe.send("ready")
        with contextlib.suppress(EOFError):
            while True:
                pipe.send(_outcome(subject, task, seed, pipe.recv(), said))


def subject_of(task):
    module, name = task.split(":")
    return getattr(importlib.import_module(module), name)()


def case_of(subject, task, seed, number):
    return subject.make(random.Random(f"{task} {seed} {number}"))


def _outcome(subject, task, seed, number, said):
    try:
        _, data, known = case_of(subject, task, seed, number)
    except Exception as problem:
        return Outcome("failed", f"the fuzzer's own fault: {type(problem).__name__}: {problem}")
    before = _memory("VmRSS")
    with contextlib.suppress(OSError):  # the high-water mark counts from here; without it, from the process's start
        Path("/proc/self/clear_refs").write_text("5")
    failure, words, begin = None, "failed", time.monotonic()
    try:
        words = subject.check(data, known)
    except BaseException as problem:
        failure = f"{type(problem).__name__}: {problem}"
    seconds, grown = time.monotonic() - begin, _memory("VmHWM") - before
    if failure is None and grown > MEMORY_LIMIT:
        failure = f"it took {grown >> 20} MB"
    if os.fstat(said.fileno()).st_size:
        said.seek(0)
        failure = failure or f"it said {said.read(300)!r}"
        said.seek(0)
        said.truncate()
    return Outcome(words, failure, grown, seconds)


def _memory(what):
    """Bytes, of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{what}:\s+(\d+)", status)[1])


# All of them.


@dataclass
class Report:
    kind: str
    seed: int
    seconds: float = 0.0
    cases: int = 0
    peak: int = 0  # bytes that one case took, at most
    slowest: tuple[float, int] = (0.0, 0)  # seconds, number
    words: Counter = field(default_factory=Counter)
    failures: dict[int, str] = field(default_factory=dict)

    def add(self, number, outcome):
        self.cases += 1
        self.words[outcome.words] += 1
        self.peak = max(self.peak, outcome.grown)
        self.slowest = max(self.slowest, (outcome.seconds, number))
        if outcome.failure:
            self.failures[number] = outcome.failure

    def __str__(self):
        fine = sum(count for words, count in self.words.items() if not words.startswith(("refused", "failed")))
        slowest, number = self.slowest
        lines = [
            f"{self.kind}: {self.cases} cases in {self.seconds:.0f} s, seed {self.seed}: {fine} read, "
            f"{self.cases - fine - len(self.failures)} refused, {len(self.failures)} failed; "
            f"memory +{self.peak >> 20} MB at most, slowest {slowest:.2f} s ({self.kind}:{number})",
            *(f"  {count:7} {words}" for words, count in self.words.most_common(SHOWN)),
            *([f"  and {len(self.words) - SHOWN} rarer sentences"] if len(self.words) > SHOWN else []),
            *(f"  FAILED {self.kind}:{number}: {failure}" for number, failure in sorted(self.failures.items())),
        ]
        return "\n".join(lines)


class _Worker:
    def __init__(self, task, seed, time_limit):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, task, seed), daemon=True)
        self.process.start()
        theirs.close()
        self.number, self.since, self.limit, self.case_limit = None, time.monotonic(), START_LIMIT, time_limit

    def give(self, number):
        self.number, self.since, self.limit = number, time.monotonic(), self.case_limit
        self.pipe.send(number)

    def took(self):
        return time.monotonic() - self.since

    def answer(self):
        """What it sent, "ready" or an outcome; None while it works; a failure where it died or took too long."""
        if self.pipe.poll():
            with contextlib.suppress(EOFError, OSError):
                return self.pipe.recv()
            self.process.join()
            code = self.process.exitcode
            return Outcome(
                "failed", f"the process died of {signal.Signals(-code).name if code < 0 else f'exit {code}'}"
            )
        if self.took() > self.limit:
            self.process.kill()
            self.process.join()
            return Outcome("failed", f"no answer within {self.limit:g} s")
        return None

    def stop(self):
        self.pipe.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def run(kind, count, seed, jobs=1, seconds=float("inf"), task=None, start=0, time_limit=TIME_LIMIT):
    """Try cases start … start + count − 1, or as many as fit into the seconds. Gives a `Report`."""
    task = task or KINDS[kind]
    report, begin = Report(kind, seed), time.monotonic()
    numbers = iter(range(start, start + count))
    workers = [_Worker(task, seed, time_limit) for _ in range(jobs)]
    try:
        while workers:
            connection.wait([worker.pipe for worker in workers], timeout=1.0)
            for worker in list(workers):
                answer = worker.answer()
                if answer is None:
                    continue
                if isinstance(answer, Outcome):
                    if worker.number is None:
                        raise RuntimeError(f"{task} does not start: {answer.failure}")
                    report.add(worker.number, answer)
                    if not worker.process.is_alive():
                        workers[workers.index(worker)] = _Worker(task, seed, time_limit)
                        worker.stop()
                        continue
                number = next(numbers, None) if time.monotonic() - begin < seconds else None
                if number is None:
                    workers.remove(worker)
                    worker.stop()
                else:
                    worker.give(number)
    finally:
        for worker in workers:
            worker.stop()
    report.seconds = time.monotonic() - begin
    return report


def save_inputs(report, folder, task=None):
    """The inputs of what failed, one file each, with how they were made. Gives their paths."""
    task = task or KINDS[report.kind]
    subject, paths = subject_of(task), []
    for number in sorted(report.failures):
        try:
            how, data, _ = case_of(subject, task, report.seed, number)
        except Exception:  # said already, in the failure
            continue
        path = Path(folder, f"{report.kind}-{report.seed}-{number}.bin")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(f"{how}\n{report.failures[number]}\n", encoding="utf-8")
        paths.append(path)
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=0, metavar="N", help="damaged images")
    parser.add_argument("--tokens", type=int, default=0, metavar="N", help="damaged token files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop each kind after this time")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes")
    parser.add_argument("--folder", default="fuzz-failures", help="where the inputs of failures are saved")
    parser.add_argument("--case", metavar="KIND:NUMBER", help="this one again, and save its input in any case")
    arguments = parser.parse_args()
    failed = False
    if arguments.case:
        kind, number = arguments.case.split(":")
        report = run(kind, 1, arguments.seed, start=int(number))
        print(report)
        report.failures.setdefault(int(number), "nothing")
        print(*save_inputs(report, arguments.folder))
        return
    for kind in KINDS:
        if count := getattr(arguments, kind):
            report = run(kind, count, arguments.seed, arguments.jobs, arguments.seconds)
            print(report, flush=True)
            for path in save_inputs(report, arguments.folder):
                print(f"  saved {path}")
            failed = failed or bool(report.failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
