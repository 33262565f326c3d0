"""The faults that a fork of `faults.zygote` gets before it runs its command."""

import os
import resource
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_srt.core import files
from keras_srt.evaluation.finished_parts import FinishedParts
from keras_srt.pipeline import cost
from keras_srt.pipeline import run as pipeline
from keras_srt.pipeline.data import InMemoryData
from keras_srt.training import callbacks
from keras_srt.training import model as training
from keras_srt.training import optimization as updates


def inject(finish=False, **faults):
    """Changes what a training does.

    Args:
        finish: whether the run is evaluated and exported; else it ends with its training.
        faults: functions of this module with their arguments.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # No step is timed: that would trace each of them once more.
    cost.time_step = lambda *_: cost.StepTime(0.01, 16)
    if not finish:
        pipeline.evaluate = pipeline.report = pipeline.complete_publication = lambda *_, **__: {}
        pipeline.read_json = lambda _: {}
    for name, arguments in faults.items():
        globals()[name](*arguments)


def small_reproduction(folder):
    """Lets every target of `reproduce` have one tiny model on digits.

    Args:
        folder: for the model's config.
    """
    from reproduce_jobs import STANDARD, small_config, small_target

    from keras_srt.reproduce import job_models, targets

    targets.datasets_of = lambda name: ("digits",)
    targets.make_target = lambda name, *_: small_target(name, (STANDARD,))
    job_models.make_config = small_config(Path(folder))


def temporary_in(folder):
    """Makes temporary folders in that folder."""
    tempfile.tempdir = folder


def kill_later(step, delay):
    """kill -9 so many seconds after a step."""

    def start(now):
        if now == step:
            timer = threading.Timer(delay, os.kill, [os.getpid(), signal.SIGKILL])
            timer.daemon = True
            timer.start()

    _after_steps(start)


def after_training(name, arguments):
    """Another fault of this module, once the training is over."""
    train = pipeline.train

    def training(context, **options):
        train(context, **options)
        globals()[name](*arguments)

    pipeline.train = training


def limit_size(size):
    """Lets no file grow beyond a size from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def send(number):
    """A signal to this process."""
    os.kill(os.getpid(), number)


def close_streams():
    """Closes standard output and error, as `>&- 2>&-` does."""
    os.close(1)
    os.close(2)


def work_in(folder):
    """Changes to a folder, which is removed after the training."""
    os.mkdir(folder)
    os.chdir(folder)
    after_training("remove_folder", [folder])


def remove_folder(folder):
    """Removes an empty folder."""
    os.rmdir(folder)


def fail_part(name):
    """Lets a part of the evaluation fail where it is computed; it may be read."""
    compute = FinishedParts.compute

    def fail():
        raise RuntimeError(f"{name} is computed")

    def computing(self, part, settings, model, function):
        return compute(self, part, settings, model, fail if part == name else function)

    FinishedParts.compute = computing


def _now(model):
    """Step of the student; a teacher, which searches no neighborhood, counts below 0."""
    step = int(model.optimizer.iterations.numpy())
    return step if model.neighborhood is not None else step - 1000


def _after_steps(action):
    class Watching(callbacks.StopAtNaN):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            action(_now(self.model))

    callbacks.StopAtNaN = Watching


def signal_at_step(step, number):
    """A signal to itself after a step."""
    _after_steps(lambda now: os.kill(os.getpid(), number) if now == step else None)


def signal_at_interval(step, number, moment):
    """A signal to itself around the end of an interval: validated, saved or with its row."""

    class Before(callbacks.CollapseHint):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if moment == "validated" and _now(self.model) == step:
                os.kill(os.getpid(), number)

    class After(callbacks.History):
        def on_epoch_end(self, epoch, logs=None):
            if moment == "saved" and _now(self.model) == step:
                os.kill(os.getpid(), number)
            super().on_epoch_end(epoch, logs)
            if moment == "written" and _now(self.model) == step:
                os.kill(os.getpid(), number)

        def on_epoch_begin(self, epoch, logs=None):
            if moment == "begun" and _now(self.model) == step:
                os.kill(os.getpid(), number)

        def on_test_batch_end(self, batch, logs=None):
            if moment == "validating" and _now(self.model) == step:
                os.kill(os.getpid(), number)

    callbacks.CollapseHint, callbacks.History = Before, After


def signal_at_put(count, number):
    """A signal to itself when so many files have been written and none renamed since."""
    commit_draft, done = files.commit_draft, [0]

    def counted(draft, path):
        done[0] += 1
        if done[0] == count:
            os.kill(os.getpid(), number)
        commit_draft(draft, path)

    files.commit_draft = counted


def wait_at_step(step, begun, go):
    """Makes a file at a step, and waits for another."""

    def wait(now):
        if now == step:
            Path(begun).touch()
            while not Path(go).exists():
                time.sleep(0.02)

    _after_steps(wait)


def poison(what, step):
    """NaN in a loss, a gradient or an image of the student at a step, the first is 1."""
    now = {}
    train_step = training.RobustModel.train_step

    def stepping(self, data):
        now["step"] = self.optimizer.iterations
        return train_step(self, data)

    def factor():
        return tf.where(tf.equal(now["step"], step - 1), np.float32(np.nan), 1.0)

    training.RobustModel.train_step = stepping
    if what == "loss":
        average = training.replicas.average
        training.replicas.average = lambda values: [v * factor() for v in average(values)]
    if what == "gradient":
        scaled = updates.Update.scaled
        updates.Update.scaled = lambda self, loss: scaled(self, loss) * factor()
    if what == "image":
        batches = InMemoryData.batches

        def poisoned(self, config, plan, first_step, replicas):
            def change(index, batch):
                images, labels = batch["labeled"]
                bad = tf.where(tf.equal(index, step - 1), np.float32(np.nan), 0.0)
                return {**batch, "labeled": (images + bad, labels)}

            made = batches(self, config, plan, first_step, replicas)
            return made.enumerate(first_step).map(change)

        InMemoryData.batches = poisoned


def run_out(batches):
    """Data of that many batches, counted from the first step."""
    endless = InMemoryData.batches

    def limited(self, config, plan, first_step, replicas):
        made = endless(self, config, plan, first_step, replicas).take(batches - first_step)
        # A stream doesn't know its length; where Keras does, it begins again at a boundary.
        return made.filter(lambda _: True)

    InMemoryData.batches = limited


def fill_at_step(step, filler):
    """Fills a file system after a step."""

    def fill(now):
        if now == step:
            fill_disk(Path(filler))

    _after_steps(fill)


def fill_disk(filler):
    """Writes zeros until there is no room."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def limit_at_step(step, size):
    """Lets no file grow beyond a size after a step; 0 for from the start."""

    def limit(now):
        if now == step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    if step == 0:
        limit(0)
    else:
        _after_steps(limit)


def interrupt_after(step):
    """Ctrl-C after a step, once the other faults of that step are there."""
    _after_steps(lambda now: os.kill(os.getpid(), signal.SIGINT) if now == step else None)


def _count_trials():
    from keras_srt.tuning import trial

    trained = {"count": 0}
    train = trial.train

    def counting(*args, **kwargs):
        trained["count"] += 1
        return train(*args, **kwargs)

    trial.train = counting
    return trained


def kill_in_trial(step, trial):
    """kill -9 after a step of the trial of that number, the first is 1."""
    trained = _count_trials()
    _after_steps(
        lambda now: (
            os.kill(os.getpid(), signal.SIGKILL)
            if now == step and trained["count"] == trial
            else None
        )
    )


def fail_trial(number):
    """NaN in the first step of the trial of that number, or of all where it is 0."""
    trained = _count_trials()

    class Poisoned(callbacks.StopAtNaN):
        def on_train_batch_end(self, batch, logs=None):
            failing = number in (0, trained["count"])
            super().on_train_batch_end(batch, {**logs, "loss": float("nan")} if failing else logs)

    callbacks.StopAtNaN = Poisoned
