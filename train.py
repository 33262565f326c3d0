"""`python train.py --config NAME.json`: the same as `keras-srt train`."""

import sys

from keras_srt.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
