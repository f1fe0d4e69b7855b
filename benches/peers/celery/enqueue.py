"""Puts jobs of some 400 bytes into the task's queue: `enqueue.py COUNT`."""

import json
import sys

from tasks import app, send


def body(number):
    parameters = [{"type": "text", "text": text} for text in ("Deniz", "20 %", "30.11.")]
    template = {
        "name": "spring_sale_2026",
        "language": {"code": "tr"},
        "components": [{"type": "body", "parameters": parameters}],
    }
    job = {"messaging_product": "whatsapp", "recipient_type": "individual", "to": str(905_300_000_000 + number)}
    return json.dumps({**job, "type": "template", "template": template})


with app.producer_pool.acquire(block=True) as producer:
    for number in range(int(sys.argv[1])):
        send.apply_async((body(number),), producer=producer)
