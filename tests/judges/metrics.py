"""Reads the gateway's metrics with Prometheus' own parser of OpenMetrics, and prints each family as one JSON object."""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

with open(sys.argv[1], encoding="utf-8") as text:
    for family in text_string_to_metric_families(text.read()):
        print(
            json.dumps(
                {
                    "name": family.name,
                    "type": family.type,
                    "unit": family.unit,
                    "help": family.documentation,
                    "samples": [[s.name, s.labels, s.value] for s in family.samples],
                }
            )
        )
