# The Airflow image: Astro Runtime for Airflow 3.3 and the pins of one machine (requirements.txt), so that both run the same.
# Tags are AIRFLOW_MAJOR.MINOR-BUILD[-python-VERSION][-base]; `-base` has no hidden ONBUILD steps, all that happens is below.
# A build carries one Airflow 3.3.x: take the one whose version requirements.txt pins, or pip replaces it.
FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.12-base

USER root
WORKDIR /usr/local/airflow

# Before the code, so that an edit of a DAG does not install anything again. PIP_OPTIONS may name an index with CPU builds
# of torch: GPU work runs in the training image, and the default build brings several GB of CUDA along.
ARG PIP_OPTIONS=""
COPY requirements.txt ./
RUN pip install --no-cache-dir ${PIP_OPTIONS} -r requirements.txt

COPY --chown=astro:0 . .
USER astro

# `include` and `ragworks` are imported by name in every process: DAG files, workers, triggerer, plugins.
ENV PYTHONPATH=/usr/local/airflow:/usr/local/airflow/plugins
