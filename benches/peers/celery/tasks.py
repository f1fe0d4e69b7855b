"""The same work as a Celery task: post one job, acknowledge it afterwards.

Set up as its manual advises for work that waits for the network: gevent, one HTTP session with kept connections, late
acknowledgement, a quorum queue, no result backend.
"""

import os

import requests
from celery import Celery
from kombu import Queue
from requests.adapters import HTTPAdapter

IN_FLIGHT = int(os.environ.get("BENCH_IN_FLIGHT", "128"))
QUEUE = os.environ["BENCH_QUEUE"]

app = Celery("peer", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE, routing_key=QUEUE, queue_arguments={"x-queue-type": "quorum"})],
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=2,
    worker_detect_quorum_queues=True,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    broker_transport_options={"confirm_publish": True},
)

session = requests.Session()
session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=IN_FLIGHT))
session.headers.update({"authorization": f"Bearer {os.environ['BENCH_KEY']}", "content-type": "application/json"})


@app.task
def send(body):
    session.post(os.environ["BENCH_GATEWAY"], data=body, timeout=30).raise_for_status()
