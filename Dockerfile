# Training and evaluation, and `keras-srt serve`; TF Serving and its Compose files are in deploy/.
#   docker build -t keras-srt .                              # on a GPU machine: --build-arg EXTRA=[cuda]
#   docker run --rm -v "$PWD:/work" keras-srt train --config digits_pixel.json
#   docker build --target serve -t keras-srt-serve .
#   docker run --rm -p 127.0.0.1:8501:8501 -v "$PWD/saved_models:/models:ro" keras-srt-serve
FROM python:3.11-slim AS build

ARG EXTRA=""
ENV PIP_NO_CACHE_DIR=1

WORKDIR /opt/keras_srt
COPY setup.py constraints.txt README.md LICENSE ./
COPY configs configs
COPY keras_srt keras_srt
RUN python -m venv /opt/venv && /opt/venv/bin/pip install ".${EXTRA}" -c constraints.txt

# Headers are for building operations.
FROM build AS serve-packages
RUN rm -rf /opt/venv/lib/python3.11/site-packages/tensorflow/include

FROM python:3.11-slim AS serve
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
COPY --from=serve-packages /opt/venv /opt/venv
USER 65534:65534
WORKDIR /tmp
EXPOSE 8500 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/health', timeout=3)"]
ENTRYPOINT ["keras-srt", "serve", "--host", "0.0.0.0", "--models-dir", "/models"]
CMD ["--grpc-port", "8500"]

FROM python:3.11-slim AS train
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
COPY --from=build /opt/venv /opt/venv

# Datasets, matplotlib's fonts and compiled kernels are kept below HOME.
ENV HOME=/home/trainer
RUN useradd --create-home --uid 1000 trainer
USER trainer

# runs/ and saved_models/ appear in the folder mounted here.
WORKDIR /work
ENTRYPOINT ["keras-srt"]
CMD ["--help"]
