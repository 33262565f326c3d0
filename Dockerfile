# Training and evaluation; TF Serving and its Compose files are in deploy/.
#   docker build -t keras-srt .                              # on a GPU machine: --build-arg EXTRA=[cuda]
#   docker run --rm -v "$PWD:/work" keras-srt train --config digits_pixel.json
FROM python:3.11-slim

ARG EXTRA=""
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

WORKDIR /opt/keras_srt
COPY setup.py constraints.txt README.md LICENSE ./
COPY configs configs
COPY keras_srt keras_srt
RUN pip install ".${EXTRA}" -c constraints.txt

# Datasets, matplotlib's fonts and compiled kernels are kept below HOME.
ENV HOME=/home/trainer
RUN useradd --create-home --uid 1000 trainer
USER trainer

# runs/ and saved_models/ appear in the folder mounted here.
WORKDIR /work
ENTRYPOINT ["keras-srt"]
CMD ["--help"]
