"""`python -m keras_srt …` is `keras-srt …`."""

import sys

from keras_srt.cli.main import main

sys.exit(main())
