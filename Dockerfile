# Tangent's images, one per target:
#   service            REST, dashboard and command line; neither torch nor Ray
#   worker             the dispatcher, and workers on CPUs
#   worker-cuda        workers on NVIDIA GPUs
#   optuna-dashboard   Optuna's own page, for debugging
#
# BASE is any Debian image, with its own Python (3.11 or newer) or without, in which case Debian's Python is installed. The file uses only what every
# builder supports, including the classic builder of an engine without BuildKit, which also builds all targets above the requested one.
# pip reads PIP_… from the build arguments: set PIP_FIND_LINKS or PIP_INDEX_URL where PyPI cannot be reached.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
SHELL ["/bin/sh", "-euc"]
# A named volume inherits the owner of the folder on which it is first mounted.
RUN command -v python3 >/dev/null && python3 -c "import ensurepip, venv" || { \
        apt-get update -qq; apt-get install -qq -y --no-install-recommends python3 python3-venv; rm -rf /var/lib/apt/lists/*; }; \
    groupadd --gid 10001 tangent; \
    useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin tangent; \
    install -d -o tangent -g tangent /var/lib/tangent /var/lib/tangent/home /var/lib/tangent/checkpoints; \
    python3 -m venv /opt/tangent
ENV PATH=/opt/tangent/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TANGENT_HOME=/var/lib/tangent/home
WORKDIR /var/lib/tangent/home

# The project itself changes with every commit and is one small layer, copied from here. The extras' requirements come from pyproject.toml and change rarely.
FROM base AS project
ARG PIP_FIND_LINKS=
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
WORKDIR /project
COPY pyproject.toml constraints.txt ./
RUN pip install -q -c constraints.txt setuptools; \
    for extra in service otel workers s3 debug; do \
        python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies'][sys.argv[1]], sep='\n')" $extra > $extra.txt; \
    done
COPY README.md LICENSE NOTICE ./
COPY adamp adamp
COPY studies studies
COPY workers workers
COPY service service
COPY docs docs
COPY tangent tangent
RUN pip wheel -q --no-deps --no-build-isolation --wheel-dir /wheel .

FROM base AS requirements
COPY --from=project /project/constraints.txt /project/service.txt /project/otel.txt /project/workers.txt /project/s3.txt /project/debug.txt /requirements/

FROM requirements AS optuna-dashboard
ARG PIP_FIND_LINKS=
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
RUN pip install -q -c /requirements/constraints.txt -r /requirements/debug.txt
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/dashboard', timeout=4)"]
# The password is read at start, so that neither the image's nor the container's metadata contains it.
CMD ["sh", "-c", "PGPASSWORD=$(cat \"$PASSWORD_FILE\") exec optuna-dashboard --host 0.0.0.0 --port 8080 \"$STORAGE\""]

FROM requirements AS service
ARG PIP_FIND_LINKS=
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
RUN pip install -q -c /requirements/constraints.txt -r /requirements/service.txt -r /requirements/otel.txt
COPY --from=project /wheel /wheel
RUN pip install -q --no-deps /wheel/*.whl
USER 10001:10001
EXPOSE 8780
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8780/healthz', timeout=4)"]
CMD ["tangent", "serve"]

# The compiler is for torch.compile, which speeds up stacks of small models. torch is installed first, because other packages would choose their own build.
FROM requirements AS worker
ARG PIP_FIND_LINKS=
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN apt-get update -qq; \
    apt-get install -qq -y --no-install-recommends g++ libc6-dev $(case $(readlink -f /opt/tangent/bin/python) in /usr/bin/*) echo libpython3-dev ;; esac); \
    rm -rf /var/lib/apt/lists/*
RUN pip install -q -c /requirements/constraints.txt torch
RUN pip install -q -c /requirements/constraints.txt -r /requirements/workers.txt -r /requirements/s3.txt
COPY --from=project /wheel /wheel
RUN pip install -q --no-deps /wheel/*.whl
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["sh", "-c", "grep -qsx raylet /proc/[0-9]*/comm"]
CMD ["python", "-m", "workers"]

# PyPI's builds of torch include CUDA; the driver comes from the engine's NVIDIA runtime.
FROM requirements AS worker-cuda
ARG PIP_FIND_LINKS=
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
RUN apt-get update -qq; \
    apt-get install -qq -y --no-install-recommends g++ libc6-dev $(case $(readlink -f /opt/tangent/bin/python) in /usr/bin/*) echo libpython3-dev ;; esac); \
    rm -rf /var/lib/apt/lists/*
RUN pip install -q -c /requirements/constraints.txt torch
RUN pip install -q -c /requirements/constraints.txt -r /requirements/workers.txt -r /requirements/s3.txt
COPY --from=project /wheel /wheel
RUN pip install -q --no-deps /wheel/*.whl
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["sh", "-c", "grep -qsx raylet /proc/[0-9]*/comm"]
CMD ["python", "-m", "workers.node"]
