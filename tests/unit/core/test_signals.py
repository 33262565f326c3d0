"""Deferred signals."""

import signal
import threading

import numpy as np
import pytest

from keras_srt.core.signals import deferred_signals
from keras_srt.core.tensorflow import keras
from keras_srt.training.callbacks import StopAtSignal

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_first_signal_is_deferred_and_second_is_handled(number):
    before = signal.signal(number, signal.default_int_handler)
    try:
        with deferred_signals(BOTH) as came:
            assert not came()
            signal.raise_signal(number)
            assert came()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in BOTH]
    with deferred_signals(BOTH):
        assert not {signal.getsignal(number) for number in BOTH} & set(before)
    assert [signal.getsignal(number) for number in BOTH] == before


def test_other_threads_do_not_defer_signals():
    def hold():
        with deferred_signals(BOTH) as came:
            seen.append(came())

    seen = []
    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [False]


class Signal(keras.callbacks.Callback):
    """Ctrl-C in the middle of a batch; records that the batch finishes."""

    def __init__(self, moment):
        super().__init__()
        self.went_on = False
        setattr(self, f"on_{moment}_batch_begin", self._raise)

    def _raise(self, batch, logs=None):
        if batch == 2:
            signal.raise_signal(signal.SIGINT)
            self.went_on = True


@pytest.mark.parametrize(("moment", "steps"), [("train", 3), ("test", 5)])
def test_fit_stops_after_the_batch_of_the_signal(moment, steps):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = np.ones((20, 2)), np.ones((20, 1))
    signals = Signal(moment)
    with deferred_signals([signal.SIGINT]) as came:
        callbacks = [signals, StopAtSignal(came)]
        with pytest.raises(KeyboardInterrupt):
            model.fit(*data, batch_size=4, validation_data=data, callbacks=callbacks, verbose=0)
    assert signals.went_on
    assert int(model.optimizer.iterations.numpy()) == steps
